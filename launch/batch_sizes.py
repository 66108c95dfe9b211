"""Batches that do not divide over the machine, and what to change then."""

import functools
import math

import jax
import ml_collections
from jax.sharding import Mesh

from data import batches
from launch import errors, tasks
from training import optimizer, sharding


def check_config(
  config: ml_collections.ConfigDict, adapter: tasks.Adapter
) -> None:
  """Refuses batches that do not divide into pieces, examples and processes.

  Raises:
    CommandError: with overrides that work.
  """
  train, parts = config.train, (jax.process_index(), jax.process_count())
  pieces = train.get("accumulate", 1)
  try:
    optimizer.check_pieces(pieces, train.batch_size)
  except ValueError as error:
    raise errors.CommandError(f"train.{error}") from error
  tensor = max(config.mesh.get("tensor", 1), 1)
  count = max(jax.device_count() // tensor, 1)
  rows = {"train": adapter.rows_per_example(config)}
  if config.eval.every:
    rows["eval"] = 1
  for section, each in rows.items():
    size = config[section].batch_size
    try:
      batches.Plan(size, each, *parts)
    except ValueError as error:
      message = f"{section}.{error}"
      if size > 0:
        message += f": set {_remedy(config, adapter, count)}"
      raise errors.CommandError(message) from error


def check_mesh(
  config: ml_collections.ConfigDict, adapter: tasks.Adapter, mesh: Mesh
) -> None:
  """Refuses batches that do not divide over the devices of a mesh.

  Raises:
    CommandError: with overrides that work.
  """
  count = math.prod(mesh.shape[axis] for axis in sharding.BATCH_AXES)
  sections = ("train", "eval") if config.eval.every else ("train",)
  for section in sections:
    field = f"{section}.batch_size"
    try:
      sharding.check_batch(mesh, config[section].batch_size, field)
    except ValueError as error:
      remedy = _remedy(config, adapter, count)
      raise errors.CommandError(f"{error}, for instance {remedy}") from error


def _remedy(config, adapter, count) -> str:
  """Names the next batches that divide, and the rates that follow them."""
  train = config.train
  rows = adapter.rows_per_example(config) * jax.process_count()
  size = _next(train.batch_size, count, rows, train.get("accumulate", 1))
  found = {}
  rates = ()
  if size != train.batch_size:
    found["train.batch_size"] = str(size)
    if tasks.offers(adapter, "rates_an_image"):
      rates = adapter.rates_an_image(config)
    for name in rates:
      rate = functools.reduce(getattr, name.split("."), config)
      found[name] = f"{rate * size / train.batch_size:.4g}"
  if config.eval.every:
    size = _next(config.eval.batch_size, count, jax.process_count())
    if size != config.eval.batch_size:
      found["eval.batch_size"] = str(size)
  said = " ".join(f"--config.{name}={value}" for name, value in found.items())
  scaled = " (these rates are so much an image of the batch)" * bool(rates)
  return said + scaled


def _next(size, *divisors):
  """Returns the least multiple of all divisors that is no less than `size`."""
  step = math.lcm(*divisors)
  return -(-size // step) * step
