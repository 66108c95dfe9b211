"""What a run measures and shows of itself on a schedule."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from evaluation import likelihood
from launch import code_usage, pictures, tasks
from training import sharding
from training import state as state_lib
from training import task as task_lib

_logger = logging.getLogger(__name__)

# What a sampler says of samples and has no mean: numbers of classes.
_NAMES = ("label",)


@dataclasses.dataclass(frozen=True)
class Result:
  """Numbers and pictures by name; pictures are uint8 [h, w, 3].

  `failed` says that there are none, though there should be.
  """

  scalars: Mapping[str, float]
  images: Mapping[str, np.ndarray]
  failed: bool = False


class Likelihood:
  """What `rates` makes of a part of a split.

  With a codebook, also how that part uses its codes: one batch may have fewer.
  """

  name = "likelihood"

  def __init__(
    self,
    task: task_lib.Task,
    adapter: tasks.Adapter,
    make_batches: Callable[[], Iterable[Mapping[str, Any]]],
    key: jax.Array,
    every: int,
  ):
    """Prepares; nothing is compiled before the first `run`.

    Args:
      task: of the run.
      adapter: of the task.
      make_batches: starts a pass over global evaluation batches.
      key: for `eval_step`, the same at every step.
      every: steps between runs.
    """
    self.every = every
    self._adapter = adapter
    self._make_batches = make_batches
    self._key = key
    self._counter = None
    if tasks.offers(task, "count_codes"):
      self._counter = code_usage.Counter(task)
      self._eval_step = self._counter.beside(task.eval_step)
    else:
      self._eval_step = jax.jit(task.eval_step)

  def run(self, state: state_lib.State, step: int) -> Result:
    """Measures the rates `eval/<name>`, and `eval/codes_...`."""
    del step
    if self._counter is not None:
      self._counter.begin()
    sums = likelihood.measure(
      self._eval_step, state, self._make_batches(), self._key
    )
    for name in sums.nonfinite():
      _logger.warning("not finite: %s", name)
    found = rates(sums, self._adapter)
    if self._counter is not None:
      found |= self._counter.usage()
    return Result({f"eval/{name}": x for name, x in found.items()}, {})


def rates(sums: likelihood.Sums, adapter: tasks.Adapter) -> dict[str, float]:
  """Divides the sums of an evaluation, and the totals that an adapter names.

  Bits become those an element, a pixel and an image; the first total is called
  `bits`, another one `bits_<name>`. An adapter without a likelihood has rates
  of its own.
  """
  if tasks.offers(adapter, "rates"):
    return adapter.rates(sums)
  found: dict[str, float] = {}
  for index, (name, parts) in enumerate(adapter.LIKELIHOOD.items()):
    for key, value in likelihood.rates(sums, parts).items():
      if index and key.startswith("bits_per_"):
        key = key.replace("bits_per_", f"bits_{name}_per_")
      found[key] = value
  return found


class Pictures:
  """A grid of samples, and the means of what the sampler says of them."""

  name = "samples"

  def __init__(
    self, sampler: tasks.Sampler, num: int, batch_size: int, every: int
  ):
    """Prepares.

    Args:
      sampler: see `tasks.Sampler`.
      num: pictures in the grid.
      batch_size: how many are drawn at a time, always that many.
      every: steps between grids.
    """
    self.every = every
    self._sampler = sampler
    self._num = num
    self._batch_size = batch_size

  def run(self, state: state_lib.State, step: int) -> Result:
    """Draws samples 0 to num - 1, the same ones at every step."""
    del step
    parts = []
    for start in range(0, self._num, self._batch_size):
      indices = np.arange(start, start + self._batch_size, dtype=np.int32)
      parts.append(jax.device_get(_on_host(self._sampler(state, indices))))
    drawn = jax.tree.map(lambda *x: np.concatenate(x)[: self._num], *parts)
    scalars = {
      f"sample/{name}": float(np.mean(values, dtype=np.float64))
      for name, values in drawn.info.items()
      if values.ndim == 1 and name not in _NAMES
    }
    grid = pictures.grid(drawn.images, drawn.sizes)
    return Result(scalars, {self.name: grid})


def _on_host(samples: task_lib.Samples) -> task_lib.Samples:
  """Makes every array whole on every process, and drops the tokens."""
  return samples.replace(
    tokens=(),
    **{
      name: jax.tree.map(_whole, getattr(samples, name))
      for name in ("images", "sizes", "info")
    },
  )


def _whole(array):
  if isinstance(array, jax.Array) and not array.is_fully_addressable:
    mesh: Mesh = array.sharding.mesh
    replicate = jax.jit(lambda x: x, out_shardings=sharding.replicated(mesh))
    return replicate(array)
  return array
