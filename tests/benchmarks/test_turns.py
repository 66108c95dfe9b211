"""What benchmarks share: the cores that contestants have."""

import argparse
import json
import os
import subprocess
import sys

import pytest

from benchmarks import sundae, turns, vqgan
from tests import shared

# Runs a benchmark up to its first case, computes, and says which cores the
# threads of this process may use.
_CORES = """
import json, os, sys
import jax
from benchmarks import {name} as benchmark

def measure(name, args):
  jax.block_until_ready(jax.jit(lambda x: x @ x)(jax.numpy.ones((512, 512))))
  tasks = {{}}
  for task in os.listdir("/proc/self/task"):
    with open(f"/proc/self/task/{{task}}/comm") as file:
      tasks[task] = file.read().strip()
  cores = [
    len(os.sched_getaffinity(int(task)))
    for task, comm in tasks.items() if "XLA" in comm
  ]
  return {{"cores": cores, "train_temporary_mib": {{"2": 1, "3": 1}},
          "compilations_later": 0}}

benchmark.measure = measure
sys.exit(benchmark.main(sys.argv[1:]))
"""


@pytest.mark.skipif(
  not hasattr(os, "sched_setaffinity") or turns._num_cores() < 2,
  reason="needs Linux and two cores",
)
@pytest.mark.parametrize(
  ("name", "option"), [("vqgan", "--cases=x"), ("sundae", "--sides=4")]
)
def test_jax_has_as_many_cores_as_were_asked_for(name, option):
  done = subprocess.run(
    [sys.executable, "-c", _CORES.format(name=name), option, "--threads=1"],
    cwd=shared.ROOT,
    capture_output=True,
    text=True,
    env={**os.environ, "XLA_FLAGS": ""},
  )
  assert done.returncode == 0, done.stderr
  line = json.loads(done.stdout)
  assert line["threads"] == 1
  assert line["cores"] and set(line["cores"]) == {1}


@pytest.mark.parametrize("benchmark", [vqgan, sundae])
@pytest.mark.parametrize("count", ["0", "100000"])
def test_cores_that_are_not_there_are_refused(benchmark, count, capsys):
  with pytest.raises(SystemExit, match="2"):
    benchmark.main([f"--threads={count}", "--smoke"])
  assert f"--threads {count} must be 1 to" in capsys.readouterr().err


def test_a_system_that_leaves_no_core_out_says_so(monkeypatch, capsys):
  monkeypatch.delattr(os, "sched_setaffinity", raising=False)
  monkeypatch.setattr(turns, "_num_cores", lambda: 4)
  parser = argparse.ArgumentParser()
  turns.add_threads(parser)
  assert turns.use_threads(parser.parse_args([]).threads, parser) is None
  with pytest.raises(SystemExit):
    turns.use_threads(2, parser)
  assert "leave the flag out" in capsys.readouterr().err
