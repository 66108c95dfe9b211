"""Images that a tokenizer has turned into codes, on the disk.

DIR/tokenizer/weights.json, .safetensors     what made the codes
DIR/train/codes.json                         written last: the split is whole
DIR/train/shard-00000/codes.npy, label.npy   arrays of so many examples

A shard appears by one rename. With mirror images, examples 2i and 2i + 1 are an
image and its mirror image. NumPy only.
"""

import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from data import source as source_lib

VERSION = 1
DESCRIPTION = "codes.json"
TOKENIZER = os.path.join("tokenizer", "weights")
# How the fields of an example lie in a shard; ragged ones have starts.
RAGGED = ("boxes", "box_labels", "box_flags")
_PLAIN = ("codes", "segmentation", "depth", "keypoints", "crop")
# Entries of codes.json that a reader needs.
_NEEDED = (
  *("version", "tokenizer", "num_codes", "grid", "factor", "flips"),
  *("shards", "fields", "class_names", "zoom", "source_fingerprint"),
)


class Codes:
  """A split of a folder that `launch.tokenize` wrote; a `source.Source`.

  Attributes:
    tokenizer: its fingerprint.
    num_codes: its vocabulary.
    grid: rows and columns of codes.
    factor: pixels per code along one axis.
    flips: whether every second example is a mirror image.

  Raises DataError where the folder, the split or a shard is missing.
  """

  def __init__(self, path: str, split: str):
    root = pathlib.Path(path).expanduser() / split
    self.name = f"{path} {split}"
    described = _read(root)
    self.fields = tuple(described["fields"])
    self.class_names = tuple(described["class_names"])
    self.num_classes = len(self.class_names)
    self.tokenizer = str(described["tokenizer"])
    self.num_codes = int(described["num_codes"])
    self.grid = tuple(described["grid"])
    self.factor = int(described["factor"])
    self.flips = bool(described["flips"])
    text = json.dumps({k: described[k] for k in _NEEDED}, sort_keys=True)
    self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
    sizes = [int(size) for size in described["shards"]]
    self._starts = np.concatenate([[0], np.cumsum(sizes)])
    self._shards = [
      _open(root / shard_name(i), self.fields, size, self.grid)
      for i, size in enumerate(sizes)
    ]

  def __len__(self) -> int:
    return int(self._starts[-1])

  def read(self, indices: np.ndarray) -> list[dict[str, Any]]:
    return [self._record(int(index)) for index in indices]

  def _record(self, index):
    number = int(np.searchsorted(self._starts, index, "right")) - 1
    shard, row = self._shards[number], index - int(self._starts[number])
    record = {
      "label": int(shard["label"][row]),
      "name": f"{self.name}[{index}]",
    }
    for name in self.fields:
      if name in RAGGED:
        row_starts = shard["box_start"]
        rows = slice(int(row_starts[row]), int(row_starts[row + 1]))
        record[name] = np.array(shard[name][rows])
      else:
        record[name] = np.array(shard[name][row])
    return record


def tokenizer_path(path: str) -> pathlib.Path:
  """Return where the tokenizer of a folder of codes lies, without an ending."""
  return pathlib.Path(path).expanduser() / TOKENIZER


def shard_name(number: int) -> str:
  """Return the name of a shard's folder."""
  return f"shard-{number:05d}"


def write_shard(
  folder: pathlib.Path, number: int, columns: Mapping[str, Any]
) -> None:
  """Write a shard, by one rename; one that is there is left as it is.

  Args:
    folder: of the split.
    number: of the shard.
    columns: `label` and fields of `source.FIELDS`, an array [n, ...] each; of
      boxes, their labels and flags, n arrays.
  """
  final = folder / shard_name(number)
  if final.is_dir():
    return
  partial = folder / f".{final.name}.{os.getpid()}.partial"
  shutil.rmtree(partial, ignore_errors=True)
  partial.mkdir(parents=True)
  try:
    _save(partial / "label.npy", np.asarray(columns["label"], np.int32))
    for name in _PLAIN:
      if name in columns:
        dtype = source_lib.FIELDS[name][0]
        _save(partial / f"{name}.npy", np.asarray(columns[name], dtype))
    if "boxes" in columns:
      counts = [len(boxes) for boxes in columns["boxes"]]
      _save(partial / "box_start.npy", np.cumsum([0, *counts], dtype=np.int64))
      for name in [name for name in RAGGED if name in columns]:
        dtype, width = source_lib.FIELDS[name][0], (4,) * (name == "boxes")
        rows = [np.asarray(x, dtype).reshape(-1, *width) for x in columns[name]]
        _save(partial / f"{name}.npy", np.concatenate(rows))
    os.rename(partial, final)
  except OSError:
    shutil.rmtree(partial, ignore_errors=True)
    if not final.is_dir():  # else another process was faster
      raise


def shard_size(folder: pathlib.Path, number: int) -> int | None:
  """Return the examples of a shard that is whole, None where there is none."""
  path = folder / shard_name(number) / "label.npy"
  return len(np.load(path, mmap_mode="r")) if path.is_file() else None


def remove_partial(folder: pathlib.Path) -> None:
  """Remove what a kill left half-written; nobody may be writing."""
  for path in folder.glob(".shard-*.partial"):
    shutil.rmtree(path, ignore_errors=True)


def _save(path, array):
  with open(path, "wb") as file:
    np.save(file, array)
    file.flush()
    os.fsync(file.fileno())


def _read(root):
  """Return codes.json of a split."""
  path = root / DESCRIPTION
  hint = "write it with `python -m launch.tokenize`"
  if not path.is_file():
    whole = sorted(p.parent.name for p in root.parent.glob(f"*/{DESCRIPTION}"))
    has = f"its splits are {', '.join(whole)}" if whole else "it has no split"
    if list(root.glob("shard-*")):
      hint = "its codes are not complete: the same launch.tokenize goes on"
    raise source_lib.DataError(f"{root} holds no codes; {has}; {hint}")
  try:
    described = json.loads(path.read_text("utf-8"))
    missing = sorted(set(_NEEDED) - set(dict(described)))
  except (TypeError, ValueError) as error:
    raise source_lib.DataError(
      f"{path} is damaged ({error}); {hint}"
    ) from error
  if missing or described["version"] != VERSION:
    raise source_lib.DataError(
      f"{path} is of version {described.get('version')}, not {VERSION}, or "
      f"lacks {', '.join(missing) or 'nothing'}; {hint}"
    )
  return described


def _open(folder, fields, size, grid):
  """Return the arrays of a shard, mapped into memory."""
  names = ["label", *fields]
  if "boxes" in fields:
    names.append("box_start")
  try:
    arrays = {
      name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names
    }
  except (OSError, ValueError, EOFError) as error:
    raise source_lib.DataError(
      f"{folder} is damaged ({error}): remove it and {DESCRIPTION} beside it, "
      "and the same launch.tokenize makes it again"
    ) from error
  for name, array in arrays.items():
    length = size + (name == "box_start")
    if name in RAGGED:
      length = int(arrays["box_start"][-1])
    if len(array) != length or (name == "codes" and array.shape[1:] != grid):
      raise source_lib.DataError(
        f"{folder} has {name} of {array.shape}, not {length} for its {size} "
        f"examples of {grid}: remove the split's folder and tokenize again"
      )
  return arrays
