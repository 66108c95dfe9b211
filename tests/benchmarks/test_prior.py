"""The benchmark of priors: counts and fields, never a time."""

import json

import pytest

from benchmarks import prior


@pytest.mark.parametrize("options", [[], ["--window"]])
def test_smoke_run_compiles_once_and_draws_codes(options, capsys):
  assert prior.main(["--smoke", *options]) == 0
  line = json.loads(capsys.readouterr().out)
  assert line["compilations"] == 1 and line["in_range"]
  assert line["wall_ratio"] > 0 and line["cached_cpu_per_s"] > 0
  assert ("step_mbytes" in line) == (not options)


def test_wrong_counts_end_with_one(monkeypatch, capsys):
  line = {"compilations": 2, "compilations_later": 0, "in_range": True}
  monkeypatch.setattr(prior, "measure", lambda args: line)
  assert prior.main(["--smoke"]) == 1
  assert "counts are wrong" in capsys.readouterr().err
