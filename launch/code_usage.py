"""How a split uses the codes of a task that has a codebook."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from training import sharding
from training import state as state_lib
from training import task as task_lib
from vqgan import codebook


def measure(
  task: task_lib.Task,
  state: state_lib.State,
  batches: Iterable[Mapping[str, Any]],
) -> dict[str, float]:
  """Counts the codes of global batches, on every process alike.

  Args:
    task: with `count_codes(state, batch) -> [v]`.
    state: of the task.
    batches: with `mask`, on the mesh.

  Returns:
    codes_used, codes_perplexity, and codes_unused: of how many codes no
    image made use.
  """
  count: Callable = getattr(task, "count_codes")  # noqa: B009
  counts = None
  for batch in batches:
    if counts is None:
      mesh = batch["mask"].sharding.mesh
      count = jax.jit(count, out_shardings=sharding.replicated(mesh))
      counts = 0.0
    counts += np.asarray(count(state, batch), np.float64)
  usage = codebook.usage(np.asarray(counts, np.float32))
  found = {f"codes_{name}": float(value) for name, value in usage.items()}
  found["codes_unused"] = float(np.sum(np.asarray(counts) == 0))
  return found
