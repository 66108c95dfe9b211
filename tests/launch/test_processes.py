"""A run on two processes is the run on one (promise P2), launch included."""

import json
import os

import pytest

from tests.launch import processes, toy

TOY = os.path.abspath(toy.__file__)

_MAIN = """
import sys
from launch import tasks, train
tasks.ADAPTERS["toy"] = "tests.launch.toy"
sys.exit(train.main())
"""


def _metrics(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [
    {k: v for k, v in json.loads(line).items() if not k.startswith("perf/")}
    for line in lines
  ]


def test_two_processes_are_one_run(tmp_path):
  config = f"--config={TOY}:{toy.write_data(tmp_path / 'data.npz')}"
  config = [config, "--no_tensorboard"]
  processes.alone(_MAIN, [*config, f"--workdir={tmp_path / 'one'}"])
  processes.pair(_MAIN, [*config, f"--workdir={tmp_path / 'two'}"])
  expected, found = _metrics(tmp_path / "one"), _metrics(tmp_path / "two")
  assert [x["step"] for x in found] == [x["step"] for x in expected]
  for left, right in zip(expected, found):
    assert left == pytest.approx(right, rel=1e-5)
  environment = json.loads((tmp_path / "two" / "env.json").read_text())
  assert environment["devices"]["processes"] == 2
  assert (tmp_path / "two" / "samples" / "12.png").read_bytes() == (
    tmp_path / "one" / "samples" / "12.png"
  ).read_bytes()
