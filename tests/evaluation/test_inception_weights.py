import jax
import numpy as np
import pytest

from evaluation import inception_weights
from tests.weights import torch_writer
from weights import download, graph_file, torch_file


def field(number: int, value) -> bytes:
  """Encodes one field of a protocol buffer."""
  if isinstance(value, int):
    return varint(number << 3) + varint(value)
  return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
  out = b""
  while value > 127:
    out += bytes([value & 127 | 128])
    value >>= 7
  return out + bytes([value])


def constant(name: str, array: np.ndarray) -> bytes:
  shape = b"".join(field(2, field(1, n)) for n in array.shape)
  tensor = field(1, 1) + field(2, shape) + field(4, array.tobytes())
  value = field(1, b"value") + field(2, field(8, tensor))
  node = field(1, name.encode()) + field(2, b"Const") + field(5, value)
  return field(1, node)


def graph(tensors) -> bytes:
  parts = [field(1, field(1, b"input") + field(2, b"Placeholder"))]
  for name, array in tensors.items():
    module, _, leaf = name.rpartition(".")
    if module == "fc":
      parts.append(constant("softmax/weights", array.T.copy()))
    elif module.endswith(".conv"):
      node = inception_weights._node(module.removesuffix(".conv"))
      kernel = array.transpose(2, 3, 1, 0).copy()
      parts.append(constant(f"{node}/conv2d_params", kernel))
    else:
      node = inception_weights._node(module.removesuffix(".bn"))
      known = inception_weights._LEAVES[leaf]
      parts.append(constant(f"{node}/batchnorm/{known}", array))
  return b"".join(parts)


def equal(a, b) -> bool:
  return all(
    jax.tree.leaves(jax.tree.map(lambda x, y: np.array_equal(x, y), a, b))
  )


def test_every_kind_of_file_gives_the_same_weights(tmp_path):
  tensors = inception_weights.random_tensors(7)
  expected = inception_weights.load("random:7")
  assert expected.random and not expected.official
  pth, pb = tmp_path / "w.pth", tmp_path / "w.pb"
  named = {k: torch_writer.tensor(v) for k, v in tensors.items()}
  pth.write_bytes(torch_writer.stream_bytes(named))
  pb.write_bytes(graph(tensors))
  inception_weights.save(tmp_path / "w.safetensors", pth)
  for path in (pth, pb, tmp_path / "w.safetensors"):
    found = inception_weights.load(path)
    assert equal(found.params, expected.params), path
    assert not found.random and not found.official
  assert found.sha256 == download.sha256(pth)


def test_the_public_file_is_converted_once(tmp_path, monkeypatch):
  tensors = inception_weights.random_tensors(7)
  named = {k: torch_writer.tensor(v) for k, v in tensors.items()}
  pth = tmp_path / "public.pth"
  pth.write_bytes(torch_writer.stream_bytes(named))
  monkeypatch.setattr(download, "fetch", lambda name: pth)
  first = inception_weights.load()
  copy = tmp_path / "public.safetensors"
  assert first.sha256 == download.sha256(pth) and copy.is_file()
  with monkeypatch.context() as patch:
    patch.setattr(torch_file, "state_dict", None)  # not read again
    again = inception_weights.load()
  assert equal(again.params, first.params) and again.sha256 == first.sha256
  whole = copy.read_bytes()
  flipped = bytearray(whole)
  flipped[len(whole) // 2] ^= 1
  for damaged in (whole[:1000], bytes(flipped)):
    copy.write_bytes(damaged)
    with pytest.raises(ValueError):
      inception_weights.load(copy)
    assert equal(inception_weights.load().params, first.params)
    assert equal(inception_weights.load(copy).params, first.params)


def test_names_in_the_graph_follow_the_towers():
  for module, node in {
    "Conv2d_1a_3x3": "conv",
    "Conv2d_4a_3x3": "conv_4",
    "Mixed_5b.branch5x5_2": "mixed/tower/conv_1",
    "Mixed_6a.branch3x3dbl_3": "mixed_3/tower/conv_2",
    "Mixed_6d.branch1x1": "mixed_6/conv",
    "Mixed_6e.branch7x7dbl_5": "mixed_7/tower_1/conv_4",
    "Mixed_7a.branch3x3_2": "mixed_8/tower/conv_1",
    "Mixed_7a.branch7x7x3_4": "mixed_8/tower_1/conv_3",
    "Mixed_7b.branch3x3_2b": "mixed_9/tower/mixed/conv_1",
    "Mixed_7c.branch3x3dbl_3a": "mixed_10/tower_1/mixed/conv",
    "Mixed_7c.branch_pool": "mixed_10/tower_2/conv",
  }.items():
    assert inception_weights._node(module) == node


def test_seeds_differ_and_bad_ones_are_named():
  a, b = (
    inception_weights.random_tensors(0),
    inception_weights.random_tensors(1),
  )
  assert not np.allclose(a["fc.weight"], b["fc.weight"])
  with pytest.raises(ValueError, match="'random:x' is not random:SEED"):
    inception_weights.load("random:x")


def test_broken_graphs_are_one_typed_error(tmp_path):
  data = graph({"fc.weight": np.ones((3, 2), np.float32)})
  path = tmp_path / "g.pb"
  path.write_bytes(data)
  assert graph_file.constants(path)["softmax/weights"].shape == (2, 3)
  draw = np.random.RandomState(0)
  for length in range(len(data)):
    path.write_bytes(data[:length])
    try:
      graph_file.constants(path)
    except graph_file.GraphFileError:
      pass
    else:
      pytest.fail(f"{length} bytes of {len(data)} were read")
  for _ in range(500):
    changed = bytearray(data)
    changed[draw.randint(len(data))] = draw.randint(256)
    path.write_bytes(changed)
    try:
      graph_file.constants(path)
    except graph_file.GraphFileError:
      continue
  path.write_bytes(graph({"fc.weight": np.ones((3, 2), np.float32)}))
  with pytest.raises(ValueError, match="no Const node conv/conv2d_params"):
    inception_weights.load(path)
