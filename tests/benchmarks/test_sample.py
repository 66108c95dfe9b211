"""The benchmark of sampling: counts, never a time."""

import json

from benchmarks import sample


def test_smoke_run_compiles_once_and_fills_every_list(capsys):
  assert sample.main(["--smoke"]) == 0
  out = capsys.readouterr().out
  (line,) = [json.loads(x) for x in out.splitlines() if x[:1] == "{"]
  assert line["compilations"] == 1 and line["compilations_later"] == 0
  assert line["elements"] == line["batch"] * line["list"]
  assert sample.EXTRAPOLATED in out.splitlines()[-1]
