import json
import os

import ml_collections
import numpy as np
import pytest

from launch import errors, rundir


def _config(**changes):
  config = ml_collections.ConfigDict(
    {
      "seed": 3,
      "platform": "auto",
      "model": {"width": 64, "layers": (2, 2), "rate": None},
      "train": {"num_steps": 10, "keep": 3},
      "mesh": {"data": -1},
    }
  )
  config.update_from_flattened_dict(changes)
  return config


def test_config_survives_the_round_trip(tmp_path):
  rundir.begin(tmp_path / "run", _config())
  back = rundir.load_config(tmp_path / "run")
  assert back.to_dict() == _config().to_dict()
  assert back.is_locked


def test_same_config_goes_on(tmp_path):
  rundir.begin(tmp_path, _config())
  rundir.begin(tmp_path, _config())


def test_another_model_is_refused_with_the_difference(tmp_path):
  rundir.begin(tmp_path, _config())
  before = (tmp_path / "config.json").read_bytes()
  with pytest.raises(errors.CommandError) as caught:
    rundir.begin(tmp_path, _config(**{"model.width": 32, "seed": 4}))
  assert "model.width: 64 -> 32" in str(caught.value)
  assert "seed: 3 -> 4" in str(caught.value)
  assert (tmp_path / "config.json").read_bytes() == before


def test_what_changes_no_step_may_change(tmp_path):
  rundir.begin(tmp_path, _config())
  rundir.begin(tmp_path, _config(**{"mesh.data": 4, "train.keep": 5}))
  assert rundir.load_config(tmp_path).train.keep == 5


def test_accepted_changes_keep_the_old_config(tmp_path):
  rundir.begin(tmp_path, _config())
  rundir.begin(tmp_path, _config(**{"model.width": 32}), accept_changes=True)
  assert rundir.load_config(tmp_path).model.width == 32
  old = json.loads((tmp_path / "config-1.json").read_text())
  assert old["model"]["width"] == 64


def test_difference_names_added_and_removed_fields():
  changes = rundir.difference({"a": {"b": 1}}, {"a": {"c": [2]}})
  assert changes == ["a.b: 1 -> (absent)", "a.c: (absent) -> [2]"]


def test_environment_is_written(tmp_path):
  rundir.begin(tmp_path, _config())
  found = json.loads((tmp_path / "env.json").read_text())
  assert found["seed"] == 3
  assert found["devices"] == {
    "kind": "cpu",
    "platform": "cpu",
    "count": 8,
    "processes": 1,
  }
  assert "pytest" in found["command"]
  assert found["versions"]["jax"]


def test_measures_once(tmp_path):
  calls = []

  def compute():
    calls.append(1)
    return {"std": np.arange(3.0), "limit": np.int64(7)}

  for _ in range(2):
    found = rundir.measured(tmp_path, compute)
    np.testing.assert_array_equal(found["std"], np.arange(3.0))
    assert found["limit"] == 7
  assert len(calls) == 1


def test_damaged_files_are_named(tmp_path):
  (tmp_path / "measured.npz").write_bytes(b"PK")
  with pytest.raises(errors.CommandError, match=r"measured\.npz cannot be"):
    rundir.load_measured(tmp_path)
  (tmp_path / "config.json").write_text("{")
  with pytest.raises(errors.CommandError, match=r"config\.json is damaged"):
    rundir.load_config(tmp_path)


def test_no_run_and_no_folder_are_named(tmp_path):
  with pytest.raises(errors.CommandError, match="holds no run"):
    rundir.load_config(tmp_path)
  (tmp_path / "file").write_text("")
  with pytest.raises(errors.CommandError, match="is a file"):
    rundir.begin(tmp_path / "file", _config())


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / "x"
  rundir.write(path, b"old")

  def fail(*_):
    raise OSError("disk full")

  monkeypatch.setattr(os, "replace", fail)
  with pytest.raises(OSError, match="disk full"):
    rundir.write(path, b"new")
  assert path.read_bytes() == b"old"
  assert os.listdir(tmp_path) == ["x"]
