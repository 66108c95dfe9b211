"""How a split uses the codes of a task that has a codebook."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from training import sharding
from training import state as state_lib
from training import task as task_lib
from vqgan import codebook

_Batch = TypeVar("_Batch", bound=Mapping[str, Any])


class Counter:
  """Counts the codes of batches on their way to something else."""

  def __init__(self, task: task_lib.Task):
    """Prepares; `task` has `count_codes(state, batch) -> [v]`."""
    self._count: Callable = getattr(task, "count_codes")  # noqa: B009
    self._jitted: Callable | None = None
    self._counts: Any = 0.0

  def passing(
    self, state: state_lib.State, batches: Iterable[_Batch]
  ) -> Iterator[_Batch]:
    """Yields global batches, with `mask` and on the mesh; counts anew."""
    self._counts, waiting = 0.0, None
    for batch in batches:
      if self._jitted is None:
        mesh = batch["mask"].sharding.mesh
        shared = sharding.replicated(mesh)
        self._jitted = jax.jit(self._count, out_shardings=shared)
      found = self._jitted(state, batch)
      yield batch
      # Fetched one batch late: the devices never wait for the host.
      self._add(waiting)
      waiting = found
    self._add(waiting)

  def usage(self) -> dict[str, float]:
    """Returns how the codes of the last pass are used, on every process alike.

    Returns:
      codes_used, codes_perplexity, and codes_unused: of how many codes no
      image made use.
    """
    usage = codebook.usage(np.asarray(self._counts, np.float32))
    found = {f"codes_{name}": float(value) for name, value in usage.items()}
    found["codes_unused"] = float(np.sum(np.asarray(self._counts) == 0))
    return found

  def _add(self, counts):
    if counts is not None:
      self._counts = self._counts + np.asarray(counts, np.float64)


def measure(
  task: task_lib.Task,
  state: state_lib.State,
  batches: Iterable[Mapping[str, Any]],
) -> dict[str, float]:
  """Counts the codes of a pass; see `Counter`."""
  counter = Counter(task)
  for _ in counter.passing(state, batches):
    pass
  return counter.usage()
