"""A run on two processes is the run on one (promise P2), launch included."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests import shared
from tests.launch import toy

TOY = os.path.abspath(toy.__file__)

_MAIN = """
import sys
from launch import tasks, train
tasks.ADAPTERS["toy"] = "tests.launch.toy"
sys.exit(train.main())
"""


def _free_port() -> int:
  with socket.socket() as server:
    server.bind(("127.0.0.1", 0))
    return server.getsockname()[1]


def _start(arguments, devices, **environment):
  flags = f"--xla_force_host_platform_device_count={devices}"
  return subprocess.Popen(
    [sys.executable, "-c", _MAIN, *arguments, "--no_tensorboard"],
    cwd=shared.ROOT,
    env={**os.environ, "XLA_FLAGS": flags, **environment},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def _finish(processes):
  try:
    outputs = [process.communicate(timeout=300)[0] for process in processes]
  finally:
    for process in processes:
      process.kill()
  for process, output in zip(processes, outputs):
    assert process.returncode == 0, output


def _metrics(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [
    {k: v for k, v in json.loads(line).items() if not k.startswith("perf/")}
    for line in lines
  ]


def test_two_processes_are_one_run(tmp_path):
  config = f"--config={TOY}:{toy.write_data(tmp_path / 'data.npz')}"
  one = _start([config, f"--workdir={tmp_path / 'one'}"], devices=2)
  _finish([one])
  address = f"127.0.0.1:{_free_port()}"
  pair = [
    _start(
      [config, f"--workdir={tmp_path / 'two'}"],
      devices=1,
      JAX_COORDINATOR_ADDRESS=address,
      JAX_NUM_PROCESSES="2",
      JAX_PROCESS_ID=str(index),
    )
    for index in range(2)
  ]
  _finish(pair)
  expected, found = _metrics(tmp_path / "one"), _metrics(tmp_path / "two")
  assert [x["step"] for x in found] == [x["step"] for x in expected]
  for left, right in zip(expected, found):
    assert left == pytest.approx(right, rel=1e-5)
  environment = json.loads((tmp_path / "two" / "env.json").read_text())
  assert environment["devices"]["processes"] == 2
  assert (tmp_path / "two" / "samples" / "12.png").read_bytes() == (
    tmp_path / "one" / "samples" / "12.png"
  ).read_bytes()
