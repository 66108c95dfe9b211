"""The benchmark of SUNDAE: counts, never a time."""

import json

import pytest

from benchmarks import sundae


@pytest.mark.slow
def test_smoke_run_compiles_once_and_memory_does_not_grow(capsys):
  assert sundae.main(["--smoke"]) == 0
  (line,) = capsys.readouterr().out.splitlines()
  line = json.loads(line)
  assert line["compilations_later"] == 0
  memory = line["train_temporary_mib"]
  assert memory["3"] <= 1.01 * memory["2"]
  assert line["ours_wall_ms_a_sample"] > 0
