"""Batches for training and evaluation, made by tf.data.

Records are read by index, 32 at a time, in Python; everything after that runs
in TensorFlow's threads. The order is `data/order.py`, so that a step number is
all there is to resume from. What an image becomes is the model's `encode`.
"""

import logging
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from data import batches, machine, order, packing, records
from data import source as source_lib

_log = logging.getLogger(__name__)

# (record, seed) -> rows: see `train_batches`.
Encode = Callable[[dict[str, tf.Tensor], tf.Tensor], dict[str, tf.Tensor]]

# Records in one call into Python.
_READ = 32
_FOREVER = np.iinfo(np.int64).max

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

  A record whose image or map cannot be decoded is replaced by the next
  readable one, named in the log and kept in the iterator's `replaced`. Raises
  ValueError for sizes that do not divide, DataError where nothing can be read.
  """
  plan = batches.Plan(
    batch_size, rows_per_example, process_index, process_count
  )
  reader = records.Reader(source)
  packed = packing.Packing(reader)
  count = plan.local_examples
  threads = threads or machine.num_cores()

  def dataset(step, careful):
    def schedule(chunk):
      positions = plan.positions(step * count + chunk * _READ, _READ)
      indices = order.indices_at(seed, positions, len(source))
      return indices, order.seeds(seed, positions)

    def make(example):
      rows = _rows(packed, _decoded(packed, example, careful), encode)
      return {k: _counted(k, v, rows_per_example) for k, v in rows.items()}

    rows = _examples(packed, schedule, None).map(make, threads)
    return rows.batch(count, drop_remainder=True)

  def generate(first):
    # Surviving a failure inside TensorFlow costs a tenth of the decoding, so
    # that begins with the first image that needs it. Values stay the same.
    step, failure = start_step, source_lib.DataError  # see _iterate
    try:
      for batch in _iterate(first, reader, threads):
        yield _flat(batch)
        step += 1
    except failure as error:
      if reader.failure is not None:
        raise
      _log.info("decoding with care from step %d on: %s", step, error)
    for batch in _iterate(dataset(step, careful=True), reader, threads):
      yield _flat(batch)

  first = dataset(start_step, careful=False)
  return batches.Batches(generate(first), reader.replaced)


def eval_batches(
  source: source_lib.Source,
  encode: Encode,
  *,
  batch_size: int,
  limit: int | None = None,
  chosen: np.ndarray | None = None,
  process_index: int = 0,
  process_count: int = 1,
  threads: int | None = None,
) -> batches.Batches:
  """Yield one pass over the dataset, in the order of the indices.

  As `train_batches`, except: `encode` may give any number of rows, another for
  each image; the last batch is padded; every batch has a `mask`, bool
  [batch_size / process_count], True for the rows that count. An unreadable
  image has no rows. With `limit`, so many images evenly spaced over the
  dataset; with `chosen` (int [k], rising), those. Each image is evaluated by
  exactly one process, and every process gets at least one batch; where images
  differ in rows, processes may differ in batches: `data.device.in_step` evens
  that out.
  """
  plan = batches.Plan(batch_size, 1, process_index, process_count)
  reader = records.Reader(source)
  packed = packing.Packing(reader)
  if chosen is None:
    chosen = order.subset(limit, len(source))
  threads = threads or machine.num_cores()

  def rows(indices, keep):
    def schedule(chunk):
      part = indices[chunk * _READ : (chunk + 1) * _READ]
      return part, order.seeds(0, part)

    examples = _examples(packed, schedule, -(-len(indices) // _READ))
    decode = lambda example: _decoded(packed, example, careful=True)
    make = lambda example: _rows(packed, example, encode)
    return examples.map(decode, threads).filter(keep).map(make, threads)

  def filler():
    anything = rows(chosen[:1], keep=lambda example: True)
    return next(_iterate(anything, reader, threads))

  # A stand-in would be counted twice.
  itself = lambda example: example["example_id"] == example["wanted"]
  dataset = rows(chosen[plan.slots(len(chosen))], keep=itself)
  padded = batches.padded(
    _iterate(dataset.unbatch().batch(plan.local_size), reader, threads),
    plan.local_size,
    plan.num_batches(len(chosen)),
    filler,
  )
  return batches.Batches(padded, reader.replaced)


def _examples(packed, schedule, chunks):
  """Read the examples of chunks 0, 1, ...; endless where `chunks` is None."""
  counter = tf.data.Dataset.range(_FOREVER if chunks is None else chunks)
  read = lambda chunk: packed.read(schedule, chunk)
  return counter.map(read, num_parallel_calls=2).unbatch()


def _decoded(packed, example, careful):
  """Add the image, if any; with care, take a stand-in for a broken record."""
  if not packed.pictures:
    return example
  image = packing.decode(example, careful)
  if not careful:
    return {**example, "image": image}
  return tf.cond(
    tf.equal(tf.size(image), 0) | packed.has_broken_map(example),
    lambda: packed.repaired(example),
    lambda: {**example, "image": image},
  )


def _rows(packed, example, encode):
  """The rows of an example, with their `example_id`."""
  record = packed.record(example)
  rows = dict(encode(record, example["seed"]))
  if "example_id" not in rows:
    count = tf.shape(next(iter(rows.values())))[0]
    rows["example_id"] = tf.repeat(record["example_id"], count)
  return rows


def _counted(name, leaf, count):
  """Check the number of rows, when tracing and when running."""
  static = leaf.shape
  if not static.rank or static[0] not in (None, count):
    raise ValueError(
      f"encode returned {name} of shape {static}; its first axis must be "
      f"rows_per_example, {count}"
    )
  return tf.ensure_shape(leaf, [count, *static[1:]])


def _flat(batch):
  """[examples, rows, ...] to [examples * rows, ...]."""
  return {k: v.reshape(-1, *v.shape[2:]) for k, v in batch.items()}


def _iterate(dataset, reader, threads):
  """Iterate in NumPy, with one clear line in place of TensorFlow's errors."""
  options = tf.data.Options()
  options.deterministic = True
  options.autotune.enabled = False
  options.threading.private_threadpool_size = threads
  options.threading.max_intra_op_parallelism = 1
  dataset = dataset.prefetch(2).with_options(options)
  # Bound here, because a generator may outlive its module at exit.
  errors, data_error = tf.errors.OpError, source_lib.DataError
  try:
    yield from dataset.as_numpy_iterator()
  except errors as error:
    if reader.failure is not None:
      raise reader.failure from error
    reason = str(error.message).partition("\n")[0].strip()
    # Of an assertion its own words, without where in the graph it stands.
    _, failed, said = reason.partition("assertion failed: [")
    reason = said.partition("] [")[0].removesuffix("]") if failed else reason
    raise data_error(f"{reader.source.name}: {reason}") from error
