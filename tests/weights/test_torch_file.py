import ml_dtypes
import numpy as np
import pytest

from tests.shared import shared_dir
from tests.weights import torch_writer as writer
from weights import pickle_machine, torch_file

ARRAYS = {
  "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
  "bfloat16": np.array([1.5, -2.0], ml_dtypes.bfloat16),
  "float16": np.array([[0.25]], np.float16),
  "int64": np.array(7),
  "int8": np.array([-1, 2], np.int8),
  "bool": np.array([True, False, True]),
  "complex64": np.array([1 + 2j], np.complex64),
  "empty": np.zeros((0, 3), np.float32),
}


def write(path, data: bytes):
  path.write_bytes(data)
  return path


def save(path, value, form: str):
  make = writer.zip_bytes if form == "zip" else writer.stream_bytes
  return write(path, make(value))


@pytest.mark.parametrize("form", ["zip", "stream"])
def test_arrays_and_containers_come_back(tmp_path, form):
  value = {"state_dict": {k: writer.tensor(v) for k, v in ARRAYS.items()}}
  value |= {"epoch": 3, "notes": [1.5, None, True, ("a", -5)]}
  path = save(tmp_path / "f", value, form)
  contents = torch_file.read(path)
  assert contents.stubs == ()
  assert contents.value["notes"] == [1.5, None, True, ("a", -5)]
  tensors = torch_file.state_dict(path)
  assert list(tensors) == list(ARRAYS)
  for name, array in ARRAYS.items():
    assert tensors[name].dtype == array.dtype
    assert tensors[name].shape == array.shape
    np.testing.assert_array_equal(tensors[name], array)


@pytest.mark.parametrize("form", ["zip", "stream"])
def test_views_share_storage_and_honour_strides_and_offsets(tmp_path, form):
  base = np.arange(12, dtype=np.float32)
  value = {
    "whole": writer.Tensor(base, 0, (3, 4), (4, 1)),
    "transposed": writer.Tensor(base, 0, (4, 3), (1, 4)),
    "column": writer.Tensor(base, 1, (3,), (4,)),
    "expanded": writer.Tensor(base, 5, (2, 3), (0, 0)),
  }
  tensors = torch_file.state_dict(save(tmp_path / "f", value, form))
  whole = base.reshape(3, 4)
  np.testing.assert_array_equal(tensors["whole"], whole)
  np.testing.assert_array_equal(tensors["transposed"], whole.T)
  np.testing.assert_array_equal(tensors["column"], whole[:, 1])
  np.testing.assert_array_equal(tensors["expanded"], np.full((2, 3), 5.0))
  assert np.shares_memory(tensors["whole"], tensors["transposed"])
  assert not tensors["whole"].flags.writeable


def test_big_endian_files_are_swapped(tmp_path):
  data = writer.zip_bytes(
    {"a": writer.tensor(ARRAYS["float32"])}, byteorder="big", big=True
  )
  tensors = torch_file.state_dict(write(tmp_path / "f", data))
  np.testing.assert_array_equal(tensors["a"], ARRAYS["float32"])


def test_untyped_storages_of_float8_are_read(tmp_path):
  raw = np.array([0.5, -1.0], ml_dtypes.float8_e4m3fn)
  storage = (
    b"((X\x07\x00\x00\x00storagectorch.storage\nUntypedStorage\n"
    b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQ"
  )
  opcodes = (
    b"ctorch._utils\n_rebuild_tensor_v3\n" + storage + b"K\x00K\x02\x85K\x01"
    b"\x85\x89ccollections\nOrderedDict\n)Rctorch\nfloat8_e4m3fn\ntR"
  )
  members = {
    "a/data.pkl": b"\x80\x02}X\x01\x00\x00\x00a" + opcodes + b"s.",
    "a/data/0": raw.tobytes(),
  }
  path = write(tmp_path / "f", writer.stored_zip(members))
  tensors = torch_file.state_dict(path)
  assert tensors["a"].dtype == raw.dtype
  np.testing.assert_array_equal(tensors["a"], raw)


def test_other_globals_become_reported_stubs(tmp_path):
  opcodes = b"cos\nsystem\nX\x04\x00\x00\x00true\x85R}X\x01\x00\x00\x00kK\x01sb"
  value = {"bad": writer.Raw(opcodes), "w": writer.tensor(np.ones(2))}
  contents = torch_file.read(save(tmp_path / "f", value, "zip"))
  assert contents.stubs == ("os.system",)
  stub = contents.value["bad"]
  assert isinstance(stub, pickle_machine.Stub)
  assert stub.args == ("true",) and stub.state == {"k": 1}


def test_parameters_ordered_dicts_and_sizes_are_plain(tmp_path):
  inner = writer._Pickler(legacy=False)
  storage = np.ones(2, np.float32)
  tensor = inner.put(writer.tensor(storage))
  opcodes = b"ctorch._utils\n_rebuild_parameter\n(" + tensor + b"\x89)tR"
  pairs = b"ccollections\nOrderedDict\n](](X\x01\x00\x00\x00kK\x07ee\x85R}b"
  size = b"ctorch\nSize\nK\x02K\x03\x86\x85R"
  members = {
    "a/data.pkl": b"\x80\x02(" + opcodes + pairs + size + b"t.",
    "a/data/0": storage.tobytes(),
  }
  path = write(tmp_path / "f", writer.stored_zip(members))
  parameter, mapping, shape = torch_file.read(path).value
  np.testing.assert_array_equal(parameter, storage)
  assert mapping == {"k": 7} and shape == (2, 3)


@pytest.mark.parametrize("name", ["vq_small", "n2n_class"])
def test_the_authors_checkpoints_are_read(name):
  path = shared_dir("golden", "taming", f"{name}.ckpt")
  contents = torch_file.read(path)
  assert contents.stubs == ()
  assert contents.value["pytorch-lightning_version"]
  tensors = torch_file.state_dict(path)
  assert all(np.isfinite(t).all() for t in tensors.values())
  assert len(tensors) == {"vq_small": 280, "n2n_class": 307}[name]


@pytest.mark.parametrize(
  "net, count", [("alex", 5), ("vgg", 5), ("squeeze", 7)]
)
def test_the_heads_of_lpips_are_read_from_the_stream(net, count):
  path = shared_dir("data", "lpips_v0.1", f"{net}.pth")
  tensors = torch_file.state_dict(path)
  assert len(tensors) == count
  assert all(t.min() >= 0 for t in tensors.values())


def bad(text):
  return lambda data: data.replace(*text)


REFUSED = {
  "empty": (b"", "empty"),
  "text": (b"hello world", "begins with"),
  "half": (writer.zip_bytes({"a": writer.tensor(np.ones(9))})[:-60], "end"),
  "no pickle": (writer.stored_zip({"a/b": b"x"}), "data.pkl"),
  "two pickles": (
    writer.stored_zip({"a/data.pkl": b"N.", "b/data.pkl": b"N."}),
    "data.pkl",
  ),
  "twice": (
    writer.stored_zip({"a/data.pkl": b"N.", "a/x": b"", "a/y": b""}).replace(
      b"a/y", b"a/x"
    ),
    "twice",
  ),
  "order": (writer.zip_bytes({}, byteorder="mixed"), "byte order"),
  "magic": (b"\x80\x02K\x01.", "magic"),
  "protocol 0": (b"\x80\x00N.", "protocol"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_malformed_files_are_refused(tmp_path, case):
  data, message = REFUSED[case]
  with pytest.raises(torch_file.TorchFileError, match=message):
    torch_file.read(write(tmp_path / "f", data))


VIEWS = {
  "beyond": (0, (3, 4), (5, 1), "reaches"),
  "offset": (11, (2,), (1,), "reaches"),
  "negative": (0, (2,), (-1,), "count"),
  "ranks": (0, (2, 2), (1,), "stride"),
  "huge": (0, (1 << 40, 1 << 40), (0, 0), "claim"),
  "many": (0, (1,) * 33, (1,) * 33, "short"),
}


@pytest.mark.parametrize("form", ["zip", "stream"])
@pytest.mark.parametrize("case", list(VIEWS))
def test_views_outside_the_storage_are_refused(tmp_path, case, form):
  *view, message = VIEWS[case]
  value = {"a": writer.Tensor(np.zeros(12, np.float32), *view)}
  with pytest.raises(torch_file.TorchFileError, match=message):
    torch_file.read(save(tmp_path / "f", value, form))


def test_compressed_members_are_refused(tmp_path):
  writer.compressed_zip(tmp_path / "f", {"a/data.pkl": b"\x80\x02N." * 99})
  with pytest.raises(torch_file.TorchFileError, match="compressed"):
    torch_file.read(tmp_path / "f")


def test_overlapping_members_are_refused(tmp_path):
  data = bytearray(writer.stored_zip({"a/data.pkl": b"N.", "a/x": b"N."}))
  second = data.rindex(b"PK\x01\x02")
  data[second + 42 : second + 46] = bytes(4)
  with pytest.raises(torch_file.TorchFileError, match="overlaps"):
    torch_file.read(write(tmp_path / "f", data))


def test_a_flipped_bit_in_a_tensor_is_found(tmp_path):
  data = writer.zip_bytes({"a": writer.tensor(np.full(99, 7.0))})
  at = data.index(np.full(9, 7.0).tobytes())
  data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
  with pytest.raises(torch_file.TorchFileError, match="checksum"):
    torch_file.read(write(tmp_path / "f", data))


def test_a_whole_module_is_answered_with_the_remedy(tmp_path):
  value = writer.Raw(b"cmymodels\nNet\n)\x81}b")
  with pytest.raises(torch_file.TorchFileError, match=r"Net.*state_dict\(\)"):
    torch_file.state_dict(save(tmp_path / "f", value, "zip"))
