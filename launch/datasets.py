"""From a config's `data` section to sources and batches.

`data.source` decides the pipeline too: `tfds`, `folder` and `pairs` decode and
encode in TensorFlow, `arrays` does everything in NumPy and needs no TensorFlow,
and `codes` takes TensorFlow where it is installed.
"""

import importlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from data import arrays, batches, codes, device
from data import source as source_lib
from launch import errors, flags, setup, tasks
from training import sharding

_logger = logging.getLogger(__name__)

SOURCES = ("tfds", "folder", "pairs", "arrays", "codes")


def open_source(
  config: ml_collections.ConfigDict, split: str
) -> source_lib.Source:
  """Opens a split of the config's dataset, preparing it if that is possible.

  Raises:
    CommandError: an unknown kind of source, or TensorFlow is missing.
    DataError: the dataset is absent; the message says how to get it.
  """
  data = config.data
  if data.source not in SOURCES:
    raise errors.CommandError(
      f"no data.source {data.source!r}"
      f"{flags.did_you_mean(data.source, SOURCES)}"
    )
  if data.source == "arrays":
    return arrays.Arrays.from_npz(data.dir, split)
  if data.source == "codes":
    return codes.Codes(data.dir, split)
  if not setup.tensorflow_available():
    raise errors.CommandError(
      f"data.source={data.source} needs TensorFlow, which is not installed: "
      "install it, or give an .npz file with data.source=arrays",
      "python -m launch.doctor",
    )
  if data.source == "folder":
    return importlib.import_module("data.folder").Folder(data.dir, split)
  if data.source == "pairs":
    return importlib.import_module("data.pairs").Pairs(data.dir, split)
  return importlib.import_module("data.tfds").Tfds(data.name, split, data.dir)


def train_batches(
  config: ml_collections.ConfigDict,
  adapter: tasks.Adapter,
  measured: tasks.Measured,
  source: source_lib.Source,
  mesh: Mesh,
  start_step: int,
) -> Iterator[dict[str, jax.Array]]:
  """Yields global training batches from a step on, without an end."""
  sharding.check_batch(mesh, config.train.batch_size)
  _check(config, adapter, measured, source)
  host = pipeline(config).train_batches(
    source,
    _encode(config, adapter, measured, "train"),
    batch_size=config.train.batch_size,
    seed=config.seed,
    start_step=start_step,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
    rows_per_example=adapter.rows_per_example(config),
  )
  return _counted(host, device.prefetch(host, sharding.batch_sharding(mesh)))


def eval_batches(
  config: ml_collections.ConfigDict,
  adapter: tasks.Adapter,
  measured: tasks.Measured,
  source: source_lib.Source,
  mesh: Mesh,
  limit: int | None = None,
) -> Iterator[dict[str, jax.Array]]:
  """Yields global batches of one pass; `limit` takes a fixed part of it."""
  sharding.check_batch(mesh, config.eval.batch_size, "eval.batch_size")
  _check(config, adapter, measured, source)
  host = pipeline(config).eval_batches(
    source,
    _encode(config, adapter, measured, "eval"),
    batch_size=config.eval.batch_size,
    limit=limit,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )
  return device.prefetch(device.in_step(host), sharding.batch_sharding(mesh))


def measure_batches(
  config: ml_collections.ConfigDict,
  adapter: tasks.Adapter,
  source: source_lib.Source,
  limit: int,
) -> Iterable[Mapping[str, np.ndarray]]:
  """Yields host batches, with `mask`, for the adapter's `measure`."""
  batch_size = config.eval.batch_size
  if tasks.offers(adapter, "most_measured"):
    batch_size = min(batch_size, adapter.most_measured(config))
  return pipeline(config).eval_batches(
    source,
    _encode(config, adapter, {}, "measure"),
    batch_size=batch_size,
    limit=limit,
  )


def image_batches(
  config: ml_collections.ConfigDict,
  adapter: tasks.Adapter,
  source: source_lib.Source,
  batch_size: int,
  limit: int | None = None,
) -> batches.Batches:
  """Yields one pass of pictures as the task sees them, on this process alone.

  `image` uint8 [b, h, w, 3], `size` int32 [b, 2] of what counts, `label`,
  `example_id` and `mask` [b]. Made in NumPy, whatever the source. Unreadable
  ones are left out; once it has ended, `replaced` of what yields names them.
  """
  return arrays.eval_batches(
    source,
    _encode_picture(config, adapter),
    batch_size=batch_size,
    limit=limit,
  )


def picture_reader(
  config: ml_collections.ConfigDict,
  adapter: tasks.Adapter,
  source: source_lib.Source,
) -> Callable[[Sequence[int]], dict[int, np.ndarray]]:
  """Returns what reads single pictures of `image_batches` by their numbers.

  Called with rising numbers it returns uint8 [h, w, 3] by number, without
  those that are unreadable.
  """
  encode = _encode_picture(config, adapter)

  def read(numbers):
    found = {}
    if not numbers:
      return found
    chosen = np.asarray(numbers)
    for batch in arrays.eval_batches(
      source, encode, batch_size=len(chosen), chosen=chosen
    ):
      for row in np.flatnonzero(batch["mask"]):
        h, w = batch["size"][row]
        found[int(batch["example_id"][row])] = batch["image"][row, :h, :w]
    return found

  return read


def pipeline(config: ml_collections.ConfigDict) -> Any:
  """Returns the module that makes batches: `data.arrays` or `data.pipeline`."""
  if in_numpy(config):
    return arrays
  return importlib.import_module("data.pipeline")


def in_numpy(config: ml_collections.ConfigDict) -> bool:
  """Says whether batches are made without TensorFlow."""
  if config.data.source == "codes":
    return not setup.tensorflow_available()
  return config.data.source == "arrays"


def _check(config, adapter, measured, source) -> None:
  """Lets an adapter refuse records that are not those of its run."""
  if tasks.offers(adapter, "check"):
    adapter.check(config, measured, source)


def _encode(config, adapter, measured, use):
  if in_numpy(config):
    return adapter.make_array_encode(config, measured, use)
  return adapter.make_encode(config, measured, use)


def _encode_picture(config, adapter):
  encode = adapter.make_array_encode(config, {}, "image")

  def labelled(record, seed):
    return {**encode(record, seed), "label": record["label"][None]}

  return labelled


def _counted(host, batches) -> Iterator[dict[str, jax.Array]]:
  """Says at the end how many unreadable images were replaced by others."""
  try:
    yield from batches
  finally:
    if host.replaced:
      _logger.warning(
        "%d images of the training split are unreadable; others took their "
        "place: log.txt names them",
        len(host.replaced),
      )
