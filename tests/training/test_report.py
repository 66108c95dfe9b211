"""The page about a run, and reference bands."""

import json

import numpy as np
import pytest

from training import band, report, rundir


@pytest.fixture
def run(tmp_path):
  """A finished run directory."""
  directory = rundir.RunDirectory.open(
    tmp_path / "run", {"note": "<b>not bold</b>"}
  )
  for step in range(1, 31):
    directory.append(step, {"train/loss": 4.0 / step, "perf/step_s": 0.1})
  directory.append(30, {"eval/x": 1.25})
  directory.save_evaluation(30, "quality", {"eval/x": 1.25, "eval/y": None})
  for step in range(1, 31):
    directory.save_image(step, "samples", np.zeros((4, 4, 3), np.uint8))
  directory.write_status(
    state="completed", step=30, total=30, seconds={"productive": 3.0}
  )
  directory.close()
  return directory


def test_the_page_shows_curves_pictures_and_tables(run):
  text = report.write(run.path).read_text()
  assert text.count("data:image/png") == 1 + 8
  assert "samples, step 30" in text
  assert "<h2>quality</h2>" in text and "<td>1.25</td>" in text
  assert "completed at step 30" in text
  assert "<b>not bold</b>" not in text
  assert "http" not in text


def test_the_page_of_a_run_that_has_just_begun(tmp_path):
  rundir.RunDirectory.open(tmp_path, {"a": 1}).close()
  assert "unknown at step" in report.write(tmp_path).read_text()


def test_no_run_is_explained(tmp_path):
  with pytest.raises(rundir.RunDirectoryError, match="not the directory"):
    report.write(tmp_path)


def test_a_band_says_inside_or_outside(run, tmp_path):
  shifted = [
    {"step": line["step"], "train/loss": line["train/loss"] * scale}
    for scale in (0.99, 1.01)
    for line in run.metrics()
    if "train/loss" in line
  ]
  reference = band.make([shifted[:30], shifted[30:]], "train/loss")
  path = tmp_path / "band.json"
  reference.save(path)
  assert band.load(path) == reference
  found = band.compare(run.metrics(), reference)
  assert found.inside and "30 steps" in found.lines[0]
  worse = [
    {"step": line["step"], "train/loss": 2 * line["train/loss"]}
    for line in shifted[:20]
  ]
  found = band.compare(worse, reference, limit=3)
  assert not found.inside
  assert "step 1:" in found.lines[1] and "more" in found.lines[-1]
  text = report.write(run.path, reference).read_text()
  assert "train/loss is inside the band" in text


def test_a_nan_is_outside_and_a_bad_file_explained(tmp_path):
  reference = band.Band("a", ((1, 0.0, 1.0),))
  assert not band.compare([{"step": 1, "a": None}], reference).inside
  path = tmp_path / "band.json"
  path.write_text(json.dumps({"metric": "a"}))
  with pytest.raises(ValueError, match="not a reference band"):
    band.load(path)
