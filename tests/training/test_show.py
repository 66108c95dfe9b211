"""Progress, trackers and seconds."""

import io
import threading
import time

import numpy as np
import pytest

from training import progress, stopwatch, tensorboard, writer


class Terminal(io.StringIO):
  """A stream that says it is a terminal."""

  def isatty(self):
    """Say so."""
    return True


def test_heartbeats_come_also_while_nothing_happens():
  stream = io.StringIO()
  shown = progress.Progress(100, stream, interval=0.05)
  shown.update(3, 2.5)
  with shown.activity("compiling", announce=True):
    time.sleep(0.3)
  shown.close()
  text = stream.getvalue()
  assert "compiling ..." in text and "compiling took 0." in text
  assert text.count("step 3/100, loss 2.5, compiling for 0:00") >= 2
  assert "\r" not in text


def test_a_terminal_gets_a_bar_and_no_heartbeats():
  stream = Terminal()
  shown = progress.Progress(10, stream, interval=0.01)
  for step in range(1, 11):
    shown.update(step, 0.5)
  time.sleep(0.05)
  shown.close()
  assert "10/10" in stream.getvalue()
  assert "step 10/10," not in stream.getvalue()


def test_time_left_follows_the_rate():
  shown = progress.Progress(100)
  assert shown.eta() is None
  shown.update(40)
  shown.update(41, 1.0)
  time.sleep(0.1)
  shown.update(51, 1.0)
  assert 0.4 < shown.eta() < 4
  assert progress.duration(3723.4) == "1:02:03"
  assert progress.duration(62) == "1:02"


def test_phases_nest_and_sum_to_the_wall_time():
  now = [0.0]
  watch = stopwatch.Stopwatch(lambda: now[0])
  watch.switch("productive")
  for phase, seconds in (("data_wait", 1.0), ("compile", 2.0)):
    with watch.during(phase):
      now[0] += seconds
    now[0] += 10
  with watch.during("checkpoint"):
    now[0] += 3
    with watch.during("evaluation"):
      now[0] += 4
    now[0] += 5
  watch.lose(15)
  seconds = watch.seconds()
  assert seconds["productive"] == 5 and seconds["lost"] == 15
  assert seconds["checkpoint"] == 8 and seconds["evaluation"] == 4
  assert sum(seconds.values()) == watch.wall() == now[0]
  watch.lose(1000)
  assert watch.seconds()["productive"] == 0


class Recorder:
  """A tracker that remembers, and may wait."""

  def __init__(self):
    """Remember nothing yet."""
    self.calls, self.gate = [], threading.Event()

  def scalars(self, step, values):
    """Remember."""
    self.gate.wait(5)
    self.calls.append((step, values))

  def images(self, step, images):
    """Remember."""
    self.calls.append((step, sorted(images)))

  texts = images

  def close(self):
    """Remember."""
    self.calls.append("closed")


def test_trackers_get_everything_in_order():
  one = Recorder()
  one.gate.set()
  fan = writer.FanOut([one])
  fan.scalars(1, {"a": 1.0})
  fan.images(2, {"x": np.zeros((2, 2, 3), np.uint8)})
  fan.texts(3, {"t": "text"})
  fan.close()
  assert one.calls == [(1, {"a": 1.0}), (2, ["x"]), (3, ["t"]), "closed"]


def test_a_slow_tracker_loses_entries_and_blocks_nobody(caplog):
  slow = Recorder()
  fan = writer.FanOut([slow], depth=3)
  began = time.monotonic()
  for step in range(100):
    fan.scalars(step, {})
  assert time.monotonic() - began < 1
  slow.gate.set()
  assert caplog.text.count("too slow") == 1
  fan.close()
  assert len(slow.calls) < 10


def test_tensorboard_files_are_written_or_left_out(tmp_path, monkeypatch):
  find = tensorboard.importlib.util.find_spec
  monkeypatch.setattr(
    tensorboard.importlib.util,
    "find_spec",
    lambda name: None if name == "clu" else find(name),
  )
  assert tensorboard.make(tmp_path) is None


@pytest.mark.slow
def test_tensorboard_files_hold_scalars_images_and_texts(tmp_path):
  board = tensorboard.make(tmp_path)
  board.scalars(1, {"train/loss": 1.0})
  board.images(1, {"samples": np.zeros((4, 4, 3), np.uint8)})
  board.texts(1, {"parameters": "none"})
  board.close()
  data = b"".join(p.read_bytes() for p in tmp_path.rglob("*tfevents*"))
  for name in (b"train/loss", b"samples", b"parameters"):
    assert name in data
