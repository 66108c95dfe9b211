"""The run directory: memory of the config, whole lines, whole files."""

import json
import logging
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from training import rundir


@pytest.fixture
def run(tmp_path):
  """An open run directory."""
  directory = rundir.RunDirectory.open(tmp_path / "run", {"a": {"b": 1}})
  yield directory
  directory.close()


def test_another_config_is_refused_with_the_difference(tmp_path):
  old = {"model": {"width": 8, "depth": 2}, "train": {"num_steps": 5}}
  new = {"model": {"width": 9}, "train": {"num_steps": 6}, "seed": 0}
  rundir.RunDirectory.open(tmp_path, old).close()
  with pytest.raises(rundir.RunDirectoryError) as info:
    rundir.RunDirectory.open(tmp_path, new)
  text = str(info.value)
  assert "model.width: 8 -> 9" in text
  assert "model.depth: 2 -> (absent)" in text
  assert "seed: (absent) -> 0" in text
  assert "train.num_steps: 5 -> 6" in text
  assert json.loads((tmp_path / "config.json").read_text()) == old


def test_some_fields_may_change_and_are_remembered(tmp_path):
  old = {"train": {"num_steps": 5}, "eval": {"every": 1, "num": 2}}
  new = {"train": {"num_steps": 6}, "eval": {"every": 3, "num": 4}}
  rundir.RunDirectory.open(tmp_path, old).close()
  rundir.RunDirectory.open(
    tmp_path, new, may_change=("train.num_steps", "eval.")
  ).close()
  assert rundir.RunDirectory(tmp_path).config == new


def test_difference_tells_types_apart_but_not_tuples_from_lists():
  assert rundir.difference({"a": 1}, {"a": 1.0}) == ["a: 1 -> 1.0"]
  assert rundir.difference({"a": True}, {"a": 1}) == ["a: true -> 1"]
  assert rundir.difference({"a": (1, 2)}, {"a": [1, 2]}) == []
  assert rundir.difference({"a": {}}, {"a": {"b": 1}}) == [
    "a: {} -> (absent)",
    "a.b: (absent) -> 1",
  ]


def test_a_directory_that_cannot_be_made_is_explained(tmp_path):
  (tmp_path / "file").touch()
  with pytest.raises(rundir.RunDirectoryError, match="cannot write"):
    rundir.RunDirectory.open(tmp_path / "file" / "run", {})


def test_no_run_is_explained(tmp_path):
  with pytest.raises(rundir.RunDirectoryError, match="not the directory"):
    _ = rundir.RunDirectory(tmp_path).config


def test_a_second_process_is_kept_out(run):
  code = (
    "import sys; from training import rundir\n"
    "rundir.RunDirectory.open(sys.argv[1], {'a': {'b': 1}})"
  )
  done = subprocess.run(
    [sys.executable, "-c", code, str(run.path)],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 1
  assert "another process is using" in done.stderr


def test_lines_are_whole_json_and_steps_do_not_fall(run):
  run.append(1, {"train/loss": np.float32(0.5), "train/x": float("nan")})
  run.append(1, {"eval/x": 1})
  with pytest.raises(ValueError, match="step 0 is below 1"):
    run.append(0, {})
  assert run.metrics() == [
    {"step": 1, "train/loss": 0.5, "train/x": None},
    {"step": 1, "eval/x": 1.0},
  ]


# P6.


@pytest.mark.parametrize(
  "torn", ['{"step": 3, "tr', '{"step": 3}', "\x00\x00", '{"loss": 1}\n', "3\n"]
)
def test_a_torn_line_is_repaired(run, torn):
  run.append(1, {"a": 1})
  run.append(2, {"a": 2})
  path = run.path / "metrics.jsonl"
  whole = path.read_bytes()
  with open(path, "a") as file:
    file.write(torn)
  assert [line["step"] for line in run.metrics()] == [1, 2]
  run.rewind(5)
  assert path.read_bytes() == whole
  run.append(3, {"a": 3})
  assert [line["step"] for line in run.metrics()] == [1, 2, 3]


def test_rewind_cuts_later_lines_and_those_after_the_save(run):
  run.append(1, {"a": 1})
  run.append(2, {"a": 2})
  size = run.metrics_size()
  run.append(2, {"eval/a": 2})
  run.append(3, {"a": 3})
  kept = (run.path / "metrics.jsonl").read_bytes()
  run.rewind(2, size)
  assert run.metrics() == [{"step": 1, "a": 1.0}, {"step": 2, "a": 2.0}]
  # A size that does not end a line is not trusted; steps still are.
  (run.path / "metrics.jsonl").write_bytes(kept)
  run.rewind(2, size - 3)
  assert [line["step"] for line in run.metrics()] == [1, 2, 2]
  run.rewind(0, 0)
  assert run.metrics() == []


def test_status_pictures_and_evaluations(run):
  run.write_status(state="running", step=3)
  assert run.status()["step"] == 3
  run.save_image(7, "samples", np.zeros((2, 3, 3), np.uint8))
  run.save_image(7, "heat/map", np.zeros((2, 3), np.uint8))
  with Image.open(run.path / "samples" / "7.png") as image:
    assert image.size == (3, 2)
  assert (run.path / "samples" / "7-heat-map.png").exists()
  run.save_evaluation(7, "one", {"eval/x": 1.5})
  run.save_evaluation(7, "two", {"eval/y": float("inf")})
  expected = {"one": {"eval/x": 1.5}, "two": {"eval/y": None}}
  assert run.evaluation(7) == expected
  assert run.evaluation(8) == {}


def test_other_processes_write_nothing(tmp_path):
  other = rundir.RunDirectory.open(tmp_path / "run", {}, primary=False)
  other.append(1, {"a": 1})
  other.write_status(state="running")
  other.save_image(1, "samples", np.zeros((2, 2, 3), np.uint8))
  other.save_evaluation(1, "x", {})
  other.rewind(0)
  assert not (tmp_path / "run").exists()


def test_the_log_gets_the_warnings_of_everybody(run):
  logging.getLogger("somebody").warning("a thing happened")
  assert "a thing happened" in (run.path / "log.txt").read_text()
