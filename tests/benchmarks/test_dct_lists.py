"""The benchmark of the lists measures every stage."""

import json

import pytest

from benchmarks import dct_lists


@pytest.mark.slow
def test_every_stage_has_a_rate(tmp_path):
  out = tmp_path / "rates.jsonl"
  arguments = ["--side=64", "--runs=1", "--batches=1", f"--out={out}"]
  assert dct_lists.main(arguments) == 0
  (line,) = out.read_text().splitlines()
  result = json.loads(line)
  stages = {"decode", "numpy_function", "lists", "pipeline"}
  assert set(result["images_per_s"]) == set(result["cpu_ms"]) == stages
  assert min(result["images_per_s"].values()) > 0
  assert result["mean_elements"] > 100
