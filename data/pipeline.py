"""Batches for training and evaluation, made by tf.data.

Records are read by index, 32 at a time, in Python; everything after that runs
in TensorFlow's threads. The order is `data/order.py`, so that a step number is
all there is to resume from. What an image becomes is the model's `encode`.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from data import batches, images, machine, order, records
from data import source as source_lib

_log = logging.getLogger(__name__)

# (record, seed) -> rows: see `train_batches`.
Encode = Callable[[dict[str, tf.Tensor], tf.Tensor], dict[str, tf.Tensor]]

# Records in one call into Python.
_READ = 32

# The accelerators belong to JAX: TensorFlow would take all of their memory.
for _kind in ("GPU", "TPU"):
  try:
    tf.config.set_visible_devices([], _kind)
  except RuntimeError as _error:
    _log.warning("TensorFlow keeps its %s devices: %s", _kind, _error)


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
  threads: int | None = None,
) -> batches.Batches:
  """Yield batches for ever, starting with the one of `start_step`.

  The batch of a step depends on `seed` and the step alone; this process gets
  its contiguous slice of it, leaves [batch_size / process_count, ...].

  Args:
    source: where records come from.
    encode: makes rows of an example, `(record, seed) -> dict` of tensors with
      a leading axis [rows_per_example, ...] and else the same shape for every
      example. The record has `image` uint8 [h, w, 3], `label` and `example_id`
      (the dataset index) int32, and the source's fields; the seed is int32
      [2], drawn for the position. Every batch has an `example_id`, encode's
      own or this one.
    batch_size: rows in a global batch.
    seed: of the order and of the seeds.
    start_step: continue here; takes no longer than starting at 0.
    process_index: of this host.
    process_count: of hosts.
    rows_per_example: rows that `encode` makes of every example.
    threads: for decoding and encoding; by default one per core.

  An image that cannot be decoded is replaced by the next readable one, named
  in the log and kept in the iterator's `replaced`. Raises ValueError for sizes
  that do not divide, DataError where nothing can be read.
  """
  plan = batches.Plan(
    batch_size, rows_per_example, process_index, process_count
  )
  reader = records.Reader(source)
  count = plan.local_examples

  def schedule(chunk):
    start = start_step * count + chunk * _READ
    positions = plan.positions(start, _READ)
    indices = order.indices_at(seed, positions, len(source))
    return indices, order.seeds(seed, positions)

  def checked_encode(record, row_seed):
    rows = encode(record, row_seed)
    return {k: _with_rows(k, v, rows_per_example) for k, v in rows.items()}

  def flat(batch):
    return {k: v.reshape(-1, *v.shape[2:]) for k, v in batch.items()}

  dataset = _examples(reader, schedule, None, checked_encode, threads)
  dataset = dataset.batch(count, drop_remainder=True)
  return batches.Batches(
    map(flat, _iterate(dataset, reader, threads)), reader.replaced
  )


def eval_batches(
  source: source_lib.Source,
  encode: Encode,
  *,
  batch_size: int,
  limit: int | None = None,
  process_index: int = 0,
  process_count: int = 1,
  threads: int | None = None,
) -> batches.Batches:
  """Yield one pass over the dataset, in the order of the indices.

  As `train_batches`, except: `encode` may give any number of rows, another for
  each image; the last batch is padded; every batch has a `mask`, bool
  [batch_size / process_count], True for the rows that count. An unreadable
  image has no rows. With `limit`, so many images evenly spaced over the
  dataset. Each image is evaluated by exactly one process, and every process
  gets at least one batch; where images differ in rows, processes may differ in
  batches: `data.device.in_step` evens that out.
  """
  plan = batches.Plan(batch_size, 1, process_index, process_count)
  reader = records.Reader(source)
  chosen = order.subset(limit, len(source))
  mine = chosen[plan.slots(len(chosen))]

  def rows(indices, stand_ins=False):
    def schedule(chunk):
      part = indices[chunk * _READ : (chunk + 1) * _READ]
      return part, order.seeds(0, part)

    chunks = -(-len(indices) // _READ)
    return _examples(reader, schedule, chunks, encode, threads, stand_ins)

  def filler():
    (row,) = _iterate(rows(chosen[:1], stand_ins=True), reader, threads)
    return row

  dataset = rows(mine).unbatch().batch(plan.local_size)
  padded = batches.padded(
    _iterate(dataset, reader, threads),
    plan.local_size,
    plan.num_batches(len(chosen)),
    filler,
  )
  return batches.Batches(padded, reader.replaced)


def _examples(reader, schedule, chunks, encode, threads, stand_ins=True):
  """A dataset with the rows of one example per element.

  schedule: chunk number -> indices [k] and their seeds [k, 2].
  """
  threads = threads or machine.num_cores()
  fields = reader.source.fields
  packing = _Packing(reader, fields)

  def read(chunk):
    columns = tf.numpy_function(
      lambda c: packing.read(*schedule(c)), [chunk], packing.dtypes
    )
    return packing.named(columns, [None])

  def make(example):
    image = _decode(example["data"], example["shape"])
    example = tf.cond(
      tf.size(image) > 0,
      lambda: {**example, "image": image},
      lambda: packing.repaired(example),
    )
    record = {
      "image": example["image"],
      "label": example["label"],
      "example_id": example["example_id"],
      **{name: packing.field(name, example) for name in fields},
    }
    rows = dict(encode(record, example["seed"]))
    if "example_id" not in rows:
      count = tf.shape(next(iter(rows.values())))[0]
      rows["example_id"] = tf.repeat(record["example_id"], count)
    return example["wanted"] == example["example_id"], rows

  counter = tf.data.Dataset.range(np.iinfo(np.int64).max)
  if chunks is not None:
    counter = counter.take(chunks)
  dataset = counter.map(read, num_parallel_calls=2, deterministic=True)
  dataset = dataset.unbatch()
  dataset = dataset.map(make, num_parallel_calls=threads, deterministic=True)
  if not stand_ins:
    dataset = dataset.filter(lambda real, rows: real)
  return dataset.map(lambda real, rows: rows)


class _Packing:
  """Records as columns of strings and numbers, to cross into TensorFlow.

  A decoded array travels as its bytes beside its shape; encoded bytes have
  the shape 0.
  """

  def __init__(self, reader, fields):
    self._reader = reader
    self._fields = fields
    self._names = ["data", "shape", "label", "example_id", "wanted", "seed"]
    self.dtypes = [tf.string] + [tf.int32] * 5
    self._shapes = [[], [3], [], [], [], [2]]
    for name in fields:
      self._names += [name, f"{name}_shape"]
      self.dtypes += [tf.string, tf.int32]
      self._shapes += [[], [3]]

  def named(self, columns, lead):
    """Name what came back from Python; each column is [*lead, ...]."""
    for column, shape in zip(columns, self._shapes):
      column.set_shape(lead + shape)
    return dict(zip(self._names, columns))

  def read(self, indices, seeds):
    """Read records; what TensorFlow cannot decode is decoded here."""
    found = []
    for record in self._reader.read(indices):
      if not _is_fast(record["image"]):
        record = self._reader.decode(record)
      found.append(self._pack(record))
    columns = [np.stack(column) for column in zip(*found)]
    return self._joined(columns, np.asarray(indices, np.int32), seeds)

  def repaired(self, example):
    """Try again with Pillow, or take the stand-in: an example with image."""
    columns = tf.numpy_function(
      self._repair, [example["example_id"], example["wanted"]], self.dtypes
    )
    named = self.named(columns, [])
    named["seed"] = example["seed"]
    return {**named, "image": _raw(named["data"], named["shape"])}

  def field(self, name, example):
    """Decode one of source.FIELDS."""
    dtype = tf.as_dtype(source_lib.FIELDS[name][0])
    data, shape = example[name], example[f"{name}_shape"]
    if name == "boxes":
      return tf.reshape(tf.io.decode_raw(data, dtype), [-1, 4])
    if name == "box_labels":
      return tf.io.decode_raw(data, dtype)
    raw = lambda: tf.reshape(tf.io.decode_raw(data, dtype), shape)
    png = lambda: tf.io.decode_png(data, 1, dtype)
    return tf.cond(shape[0] > 0, raw, png)[..., 0]

  def _repair(self, index, wanted):
    (record,) = self._reader.read([int(index)])
    packed = self._pack(self._reader.decode(record))
    return self._joined(packed, np.int32(wanted), np.zeros(2, np.int32))

  def _joined(self, columns, wanted, seeds):
    return [*columns[:4], wanted, seeds, *columns[4:]]

  def _pack(self, record):
    data, shape = _packed(record["image"], np.uint8)
    columns = [data, shape, np.int32(record["label"])]
    columns.append(np.int32(record["index"]))
    for name in self._fields:
      columns += _packed(record[name], source_lib.FIELDS[name][0])
    return columns


def _packed(value, dtype):
  """Bytes and their shape [3], which is 0 where the bytes are encoded."""
  if isinstance(value, bytes):
    return np.array(value, object), np.zeros(3, np.int32)
  value = np.ascontiguousarray(value, dtype)
  shape = (*value.shape, 1)[:3] if value.ndim else (1, 1, 1)
  shape = (*shape, 1, 1)[:3]
  return np.array(value.tobytes(), object), np.array(shape, np.int32)


def _is_fast(image):
  """Whether TensorFlow decodes it, and as Pillow would; int8 RGB and grey."""
  if isinstance(image, np.ndarray):
    return image.ndim == 3 and image.shape[-1] == 3 and image.size > 0
  if image[:3] == b"\xff\xd8\xff":
    return True
  plain = image[:8] == b"\x89PNG\r\n\x1a\n" and image[24:26] in _PLAIN_PNG
  return plain and b"tRNS" not in image[:1024]


# Bit depth 8; colour type grey or RGB.
_PLAIN_PNG = (b"\x08\x00", b"\x08\x02")


def _decode(data, shape):
  return tf.cond(
    shape[0] > 0, lambda: _raw(data, shape), lambda: images.decode(data)
  )


def _raw(data, shape):
  image = tf.reshape(tf.io.decode_raw(data, tf.uint8), shape)
  return tf.ensure_shape(image, [None, None, 3])


def _with_rows(name, leaf, count):
  static = leaf.shape
  if not static.rank or static[0] not in (None, count):
    raise ValueError(
      f"encode returned {name} of shape {static}; its first axis must be "
      f"rows_per_example, {count}"
    )
  return tf.ensure_shape(leaf, [count, *static[1:]])


def _iterate(dataset, reader, threads):
  """Iterate in NumPy, with our own errors in place of TensorFlow's."""
  options = tf.data.Options()
  options.deterministic = True
  options.autotune.enabled = False
  options.threading.private_threadpool_size = threads or machine.num_cores()
  options.threading.max_intra_op_parallelism = 1
  dataset = dataset.prefetch(2).with_options(options)

  def generate() -> Iterator[dict[str, Any]]:
    try:
      yield from dataset.as_numpy_iterator()
    except tf.errors.OpError as error:
      if reader.failure is None:
        raise
      raise reader.failure from error

  return generate()
