import ml_dtypes
import numpy as np
import pytest

from weights import safetensors


def test_arrays_and_metadata_come_back(tmp_path):
  tensors = {
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "bfloat16": np.array([1.5], ml_dtypes.bfloat16),
    "scalar": np.array(3),
  }
  path = tmp_path / "new" / "a.safetensors"
  safetensors.save(path, tensors, {"made": "here"})
  found, metadata = safetensors.load(path)
  assert metadata == {"made": "here"}
  for name, array in tensors.items():
    assert found[name].dtype == array.dtype
    np.testing.assert_array_equal(found[name], array)
  assert [p.name for p in path.parent.iterdir()] == ["a.safetensors"]


def test_damaged_files_are_refused(tmp_path):
  path = tmp_path / "a.safetensors"
  safetensors.save(path, {"a": np.ones(9)})
  data = path.read_bytes()
  for length in (0, 4, 20, len(data) - 1):
    path.write_bytes(data[:length])
    with pytest.raises(safetensors.SafetensorsError):
      safetensors.load(path)
  with pytest.raises(FileNotFoundError):
    safetensors.load(tmp_path / "absent")


def test_a_failed_write_leaves_the_old_file(tmp_path):
  path = tmp_path / "a.safetensors"
  safetensors.save(path, {"a": np.ones(2)})
  with pytest.raises(safetensors.SafetensorsError, match="str"):
    safetensors.save(path, {"a": np.array(["text"])})
  assert safetensors.load(path)[0]["a"].shape == (2,)
  assert len(list(tmp_path.iterdir())) == 1
