"""A DCTransformer killed while it trains on TFDS goes on bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests import scenes_data, shared
from training import rundir

STEPS = 120


def _start(workdir):
  config = "configs/dct_scenes.py:tiny"
  fields = {
    **scenes_data.fields(),
    "data.num_measured": 16,
    "train.num_steps": STEPS,
    "train.log_every": 1,
    "train.checkpoint_every": 10,
    "eval.every": 40,
    "sample.every": 0,
  }
  command = [f"--config={config}", f"--workdir={workdir}", "--no_tensorboard"]
  command += [f"--config.{name}={value}" for name, value in fields.items()]
  return subprocess.Popen(
    [sys.executable, "-m", "launch.train", *command],
    cwd=shared.ROOT,
    env=os.environ,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def _finish(process, timeout=900):
  try:
    output, _ = process.communicate(timeout=timeout)
  finally:
    process.kill()
  return output


def _kill_at(process, workdir, step, timeout=600):
  """Kill without any goodbye once a line of that step is there."""
  deadline = time.monotonic() + timeout
  while time.monotonic() < deadline and process.poll() is None:
    if any(line["step"] >= step for line in _lines(workdir)):
      process.send_signal(signal.SIGKILL)
      _finish(process)
      assert process.returncode == -signal.SIGKILL
      return
    time.sleep(0.02)
  raise AssertionError(_finish(process))


def _lines(workdir):
  """Return the lines of metrics without what depends on the clock."""
  path = workdir / "metrics.jsonl"
  lines = rundir.read_metrics(path) if path.exists() else []
  return [
    {name: x for name, x in line.items() if not name.startswith("perf/")}
    for line in lines
  ]


@pytest.mark.slow
def test_two_kills_leave_the_losses_bit_identical(tmp_path):
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  output = _finish(process := _start(whole))
  assert process.returncode == 0, output
  for step in (14, 61):  # between checkpoints, and past an evaluation
    _kill_at(_start(killed), killed, step)
    assert json.loads((killed / "status.json").read_text())["step"] < STEPS
  output = _finish(process := _start(killed))
  assert process.returncode == 0, output
  expected = _lines(whole)
  losses = {x["step"]: x["train/loss"] for x in expected if "train/loss" in x}
  assert list(losses) == list(range(1, STEPS + 1))
  assert losses[STEPS] < losses[1]
  assert any("eval/bits_per_image" in line for line in expected)
  assert _lines(killed) == expected
