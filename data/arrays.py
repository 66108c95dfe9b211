"""Datasets in memory, and batches made with NumPy: no TensorFlow anywhere.

`train_batches` and `eval_batches` take any source and agree with those of
`data/pipeline.py` in order, seeds and masks; only `encode` works on NumPy
arrays. They serve machines without TensorFlow and small datasets.
"""

import hashlib
import pathlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from data import batches, order, records
from data import source as source_lib

Encode = Callable[[dict[str, Any], np.ndarray], dict[str, np.ndarray]]


class Arrays:
  """A source over arrays.

  Args:
    images: uint8 [n, h, w, c] with 1 or 3 channels, or n single images of any
      sizes (arrays or encoded bytes).
    labels: int [n], or None.
    class_names: one per class; numbered where it is empty.
    name: for messages.
    **fields: further arrays of n items each, named as in `source.FIELDS`.
  """

  def __init__(
    self,
    images: np.ndarray | Sequence[np.ndarray | bytes],
    labels: np.ndarray | None = None,
    class_names: Sequence[str] = (),
    name: str = "arrays",
    **fields: Sequence[np.ndarray],
  ):
    if not len(images):
      raise source_lib.DataError(f"{name} has no images")
    columns = {"labels": labels, **fields}
    for key, column in columns.items():
      if column is not None and len(column) != len(images):
        raise source_lib.DataError(
          f"{name} has {len(images)} images and {len(column)} {key}"
        )
    unknown = set(fields) - set(source_lib.FIELDS)
    if unknown:
      raise source_lib.DataError(
        f"{name} has unknown fields {sorted(unknown)}; "
        f"known are {sorted(source_lib.FIELDS)}"
      )
    self._images = images
    self._labels = None if labels is None else np.asarray(labels, np.int64)
    self._columns = fields
    self.name = name
    self.fields = tuple(fields)
    self.class_names = tuple(class_names)
    if not class_names and labels is not None:
      self.class_names = tuple(str(i) for i in range(self._labels.max() + 1))
    self.num_classes = len(self.class_names)
    self.fingerprint = _fingerprint(images, self._labels)

  @classmethod
  def from_npz(cls, path: str, split: str = "") -> "Arrays":
    """Read `images` (or `arr_0`) and `labels` (where present) from an `.npz`.

    With a `split`, the names are `SPLIT_images` and `SPLIT_labels`. Raises
    DataError with the path, what it holds and what it should hold.
    """
    prefix = f"{split}_" if split else ""
    try:
      with np.load(path) as archive:
        held = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
      raise source_lib.DataError(
        f"{path} is no readable .npz file: {error}"
      ) from error
    images = held.get(f"{prefix}images", held.get("arr_0"))
    if images is None or images.dtype != np.uint8 or images.ndim not in (3, 4):
      raise source_lib.DataError(
        f"{path} must hold {prefix}images or arr_0, uint8 [n, h, w, c]; "
        f"it holds {[f'{k} {v.dtype} {v.shape}' for k, v in held.items()]}"
      )
    names = held.get("class_names", ())
    return cls(
      images,
      held.get(f"{prefix}labels"),
      [str(name) for name in names],
      name=f"{pathlib.Path(path).name} {split}".strip(),
    )

  def __len__(self) -> int:
    return len(self._images)

  def read(self, indices: np.ndarray) -> list[dict[str, Any]]:
    return [self._record(int(index)) for index in indices]

  def _record(self, index: int) -> dict[str, Any]:
    return {
      "image": self._images[index],
      "label": 0 if self._labels is None else int(self._labels[index]),
      "name": f"{self.name}[{index}]",
      **{key: column[index] for key, column in self._columns.items()},
    }


def train_batches(
  source: source_lib.Source,
  encode: Encode,
  *,
  batch_size: int,
  seed: int,
  start_step: int = 0,
  process_index: int = 0,
  process_count: int = 1,
  rows_per_example: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
  """Yield training batches for ever; see `data.pipeline.train_batches`."""
  plan = batches.Plan(
    batch_size, rows_per_example, process_index, process_count
  )
  reader = records.Reader(source)

  def generate():
    step = start_step
    while True:
      count = plan.local_examples
      positions = plan.positions(step * count, count)
      indices = order.indices_at(seed, positions, len(source))
      seeds = order.seeds(seed, positions)
      rows = []
      for record, row_seed in zip(reader.read(indices), seeds):
        row = _encode(source, encode, reader.decode(record), row_seed)
        batches.check_rows(row, rows_per_example)
        rows.append(row)
      yield batches.stack(rows)
      step += 1

  return batches.Batches(generate(), reader.replaced)


def eval_batches(
  source: source_lib.Source,
  encode: Encode,
  *,
  batch_size: int,
  limit: int | None = None,
  chosen: np.ndarray | None = None,
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
  """Yield one pass over the dataset; see `data.pipeline.eval_batches`."""
  plan = batches.Plan(batch_size, 1, process_index, process_count)
  reader = records.Reader(source)
  if chosen is None:
    chosen = order.subset(limit, len(source))

  def rows(indices, stand_ins=False):
    for index, seed in zip(indices, order.seeds(0, indices)):
      (record,) = reader.read([index])
      record = reader.decode(record)
      if stand_ins or record["index"] == index:  # else it would count twice
        yield _encode(source, encode, record, seed)

  padded = batches.padded(
    batches.rebatch(rows(chosen[plan.slots(len(chosen))]), plan.local_size),
    plan.local_size,
    plan.num_batches(len(chosen)),
    lambda: next(rows(chosen[:1], stand_ins=True)),
  )
  return batches.Batches(padded, reader.replaced)


def _encode(source, encode, record, seed):
  index = np.int32(record["index"])
  record = {
    **{k: v for k, v in record.items() if k not in ("index", "name")},
    "label": np.int32(record["label"]),
    "example_id": index,
  }
  try:
    found = encode(record, seed)
  except source_lib.DataError as error:  # which knows of one record only
    raise source_lib.DataError(f"{source.name}: {error}") from error
  row = {name: np.asarray(leaf) for name, leaf in found.items()}
  if "example_id" not in row:
    row["example_id"] = np.full(batches.num_rows(row), index, np.int32)
  return row


def _fingerprint(images, labels) -> str:
  digest = hashlib.sha256()
  for image in images:
    digest.update(image if isinstance(image, bytes) else image.tobytes())
    digest.update(str(getattr(image, "shape", "")).encode())
  digest.update(b"" if labels is None else labels.tobytes())
  return digest.hexdigest()[:16]
