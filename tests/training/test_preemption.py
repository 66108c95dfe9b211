"""P3: real signals to a real process."""

import signal
import time

import pytest

from tests.training import driver
from training import checkpoint


def _wait_for_line(process, workdir, step, timeout=90):
  deadline = time.monotonic() + timeout
  while time.monotonic() < deadline:
    if any(line["step"] >= step for line in driver.lines(workdir)):
      return
    assert process.poll() is None, process.communicate()[0]
    time.sleep(0.02)
  raise AssertionError(f"step {step} was not reached")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_current_step_on_a_slow_disk(tmp_path, number):
  spec = {
    "workdir": str(tmp_path),
    "steps": 10_000,
    "checkpoint_every": 5000,
    "seconds_a_step": 0.02,
    "slow_commit": 1.0,
    "seconds_an_evaluation": 0.05,
  }
  process = driver.start(spec)
  try:
    _wait_for_line(process, tmp_path, 6)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
  finally:
    process.kill()
  assert process.returncode == 0, output
  reason, step = output.strip().splitlines()[-1].split()[1:]
  assert reason == signal.Signals(number).name
  assert checkpoint.steps(tmp_path / "checkpoints") == [int(step)]


def test_a_second_signal_exits_at_once(tmp_path):
  spec = {
    "workdir": str(tmp_path),
    "steps": 10_000,
    "checkpoint_every": 5000,
    "seconds_a_step": 0.02,
    "slow_commit": 3600.0,
  }
  process = driver.start(spec)
  try:
    _wait_for_line(process, tmp_path, 6)
    process.terminate()
    time.sleep(2.0)
    assert process.poll() is None
    process.terminate()
    process.wait(timeout=20)
  finally:
    process.kill()
  assert process.returncode == 128 + signal.SIGTERM
  assert checkpoint.steps(tmp_path / "checkpoints") == []
