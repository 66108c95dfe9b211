"""Loads Inception's weights from any of the files in use, or draws them.

load()                      the public file, fetched and converted once
load("w.pth")               the public file, .pb of 2015, .safetensors
load("random:0")            for tests; never gives a FID
"""

import contextlib
import dataclasses
import hashlib
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evaluation import inception
from weights import download, graph_file, safetensors, torch_file

RANDOM = "random:"


@dataclasses.dataclass(frozen=True)
class Weights:
  """Parameters of the network and where they come from.

  Attributes:
    params: For `inception.features`.
    sha256: Of the file's bytes, in hex; for random ones "random:SEED".
    official: Whether they are those that published numbers use.
  """

  params: Mapping[str, Any]
  sha256: str
  official: bool

  @property
  def random(self) -> bool:
    """Whether results are for tests only."""
    return self.sha256.startswith(RANDOM)


def load(source: str | os.PathLike | None = None) -> Weights:
  """Loads the network.

  Args:
    source: None for the public file, fetched on first use; a `.pth` or
      `.safetensors` file with its tensors; the `.pb` graph of 2015; or
      `random:SEED`.

  Raises:
    WeightsMissing: The public file is neither there nor to be had.
    ValueError: The file is not what it should be, or the seed no number.
    OSError: The file cannot be opened.
  """
  if source is None:
    return _public(Path(download.fetch("inception")))
  name = os.fspath(source)
  if name.startswith(RANDOM):
    seed = name.removeprefix(RANDOM)
    if not seed.isdecimal():
      raise ValueError(f"inception {name!r} is not random:SEED, e.g. random:0")
    return Weights(
      inception.convert(random_tensors(int(seed))), f"{RANDOM}{seed}", False
    )
  if name.endswith(".pb"):
    tensors = _from_graph(graph_file.constants(name))
  elif name.endswith(".safetensors"):
    tensors, metadata = safetensors.load(name)
    if metadata.get("sha256"):
      # A converted file stands for the one that it was made of.
      if metadata.get("content") != _content(tensors):
        raise ValueError(f"{name} is damaged: convert it again")
      digest = metadata["sha256"]
      return Weights(inception.convert(tensors), digest, official(digest))
  else:
    tensors = torch_file.state_dict(name)
  digest = download.sha256(name)
  return Weights(inception.convert(tensors), digest, official(digest))


def _public(path: Path) -> Weights:
  """Loads the copy beside the public file, which the first time makes."""
  copy = path.with_suffix(".safetensors")
  try:
    return load(copy)
  except (OSError, ValueError):  # not there yet, or damaged
    found = load(path)
  with contextlib.suppress(OSError, ValueError):  # a cache one may only read
    save(copy, path)
  return found


def save(path: str | os.PathLike, source: str | os.PathLike) -> None:
  """Writes a `.safetensors` copy of a `.pth` or `.pb` file."""
  name = os.fspath(source)
  if name.endswith(".pb"):
    tensors = _from_graph(graph_file.constants(name))
  else:
    tensors = torch_file.state_dict(name)
  kept = {key: tensors[key] for key in inception.shapes() if key in tensors}
  metadata = {"sha256": download.sha256(name), "content": _content(kept)}
  safetensors.save(path, kept, metadata)


def _content(tensors: Mapping[str, np.ndarray]) -> str:
  """Returns the SHA-256 of names and values."""
  digest = hashlib.sha256()
  for name in sorted(tensors):
    digest.update(name.encode())
    digest.update(np.ascontiguousarray(tensors[name]).tobytes())
  return digest.hexdigest()


def random_tensors(seed: int = 0) -> dict[str, np.ndarray]:
  """Draws every tensor as a pure function of the seed and of its name.

  With seed 0 these are the weights that the golden features were made with.
  """
  tensors = {}
  for name, shape in inception.shapes().items():
    label = f"{name}#{seed}" if seed else name
    draw = np.random.RandomState(zlib.crc32(label.encode()) & 0x7FFFFFFF)
    if name.endswith("conv.weight"):
      fan = np.prod(shape[1:])
      array = draw.randn(*shape) * np.sqrt(2 / fan)
    elif name.endswith(("bn.weight", "bn.running_var")):
      array = draw.uniform(0.7, 1.3, shape)
    elif name.startswith("fc."):
      array = draw.randn(*shape) * 0.02
    else:
      array = draw.randn(*shape) * 0.1
    tensors[name] = array.astype(np.float32)
  return tensors


def official(sha256: str) -> bool:
  """Says whether weights are the public ones, by their SHA-256."""
  return sha256.startswith(download.FILES["inception"].sha256)


def _from_graph(constants: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Renames and transposes the Const nodes of the TensorFlow graph."""
  tensors = {}
  for name in inception.shapes():
    module, _, leaf = name.rpartition(".")
    if module == "fc":
      node = "softmax/weights"
    elif module.endswith(".conv"):
      node = _node(module.removesuffix(".conv")) + "/conv2d_params"
    else:
      node = f"{_node(module.removesuffix('.bn'))}/batchnorm/{_LEAVES[leaf]}"
    if node not in constants:
      raise ValueError(f"the graph has no Const node {node}")
    array = constants[node]
    if array.ndim == 4:
      array = array.transpose(3, 2, 0, 1)
    elif array.ndim == 2:
      array = array.T
    tensors[name] = array
  return tensors


_LEAVES = {
  "weight": "gamma",
  "bias": "beta",
  "running_mean": "moving_mean",
  "running_var": "moving_variance",
}
_STEM = ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")
_BLOCKS = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")


def _node(module: str) -> str:
  """Gives TensorFlow's name of a module of the PyTorch file."""
  block, _, branch = module.partition(".")
  if not branch:
    index = _STEM.index(block.removeprefix("Conv2d_"))
    return f"conv_{index}" if index else "conv"
  index = _BLOCKS.index(block.removeprefix("Mixed_"))
  mixed = f"mixed_{index}" if index else "mixed"
  kind, _, part = branch.partition("_")
  if branch in ("branch1x1", "branch3x3"):
    return f"{mixed}/conv"
  if branch == "branch_pool":
    return f"{mixed}/tower_2/conv"
  # The double branches are the second tower, and so is the only one of 6a.
  double = kind in ("branch3x3dbl", "branch7x7dbl", "branch7x7x3")
  tower = "tower_1" if double and block != "Mixed_6a" else "tower"
  number = int(part[0]) - 1
  if part[-1] in "ab":
    return f"{mixed}/{tower}/mixed/conv" + ("_1" if part[-1] == "b" else "")
  return f"{mixed}/{tower}/conv" + (f"_{number}" if number else "")
