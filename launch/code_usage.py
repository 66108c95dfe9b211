"""How a split uses the codes of a task that has a codebook."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from training import sharding
from training import state as state_lib
from training import task as task_lib
from vqgan import codebook


class Counter:
  """Counts the codes of batches that serve something else as well."""

  def __init__(self, task: task_lib.Task):
    """Prepares; `task` has `count_codes(state, batch) -> [v]`."""
    self._count: Callable = getattr(task, "count_codes")  # noqa: B009
    self._counts: Any = 0.0
    self._waiting: Any = None  # counts that are not fetched

  def begin(self) -> None:
    """Counts anew."""
    self._counts, self._waiting = 0.0, None

  def beside(self, step: Callable) -> Callable:
    """Returns `step(state, batch, key)`, jitted, that adds the codes as well.

    In one program, where what both of them compute, the encoder, runs once.
    """
    jitted: list[Callable] = []

    def both(state, batch, key):
      return step(state, batch, key), self._count(state, batch)

    def run(state, batch, key):
      if not jitted:
        shared = sharding.replicated(batch["mask"].sharding.mesh)
        jitted.append(jax.jit(both, out_shardings=(None, shared)))
      found, counts = jitted[0](state, batch, key)
      self._add(counts)
      return found

    return run

  def usage(self) -> dict[str, float]:
    """Returns how the codes since `begin` are used, on every process alike.

    Returns:
      codes_used, codes_perplexity, and codes_unused: of how many codes no
      image made use.
    """
    self._add(None)
    usage = codebook.usage(np.asarray(self._counts, np.float32))
    found = {f"codes_{name}": float(value) for name, value in usage.items()}
    found["codes_unused"] = float(np.sum(np.asarray(self._counts) == 0))
    return found

  def _add(self, newest):
    # Fetched one batch late: the devices never wait for the host.
    before, self._waiting = self._waiting, newest
    if before is not None:
      self._counts = self._counts + np.asarray(before, np.float64)


def measure(
  task: task_lib.Task,
  state: state_lib.State,
  batches: Iterable[Mapping[str, Any]],
) -> dict[str, float]:
  """Counts the codes of global batches, with `mask` and on the mesh."""
  counter = Counter(task)
  count = counter.beside(lambda *_: None)
  for batch in batches:
    count(state, batch, None)
  return counter.usage()
