"""From host batches to arrays on the devices, a few steps ahead."""

import collections
from collections.abc import Iterable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils


def prefetch(
  iterator: Iterable[dict[str, np.ndarray]],
  sharding: jax.sharding.Sharding,
  depth: int = 2,
) -> Iterator[dict[str, jax.Array]]:
  """Yield global arrays made of every process's batch, `depth` ahead.

  A batch is this process's slice: leaves [b / processes, ...]. `sharding`
  splits the leading axis. Transfers are asynchronous, so a queue of two hides
  them behind the step. At most `depth` batches are taken beyond the one in use.
  """
  if depth < 1:
    raise ValueError(f"depth {depth} must be at least 1")
  queue = collections.deque()
  for batch in iterator:
    queue.append(_to_global(batch, sharding))
    if len(queue) > depth:
      yield queue.popleft()
  while queue:
    yield queue.popleft()


def in_step(
  iterator: Iterable[dict[str, np.ndarray]],
) -> Iterator[dict[str, np.ndarray]]:
  """Yield equally many evaluation batches on every process.

  Images differ in their number of rows, so processes run out at different
  times, and one that stops early would leave the others waiting in a
  collective. A process that has run out repeats its last batch with an empty
  `mask`. Every process must have at least one batch (`eval_batches` does).
  """
  if jax.process_count() == 1:
    yield from iterator
    return
  iterator = iter(iterator)
  batch, more = None, True
  while True:
    fresh = next(iterator, None) if more else None
    more = fresh is not None
    if not multihost_utils.process_allgather(np.asarray(more)).any():
      return
    batch = fresh if more else _masked(batch)
    yield batch


def _masked(batch):
  return {**batch, "mask": np.zeros_like(batch["mask"])}


def _to_global(batch, sharding):
  return {
    name: jax.make_array_from_process_local_data(sharding, np.asarray(leaf))
    for name, leaf in batch.items()
  }
