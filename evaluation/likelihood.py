"""Likelihood of a whole split: a task's per-row sums, added up by example.

An example may be several rows (the chunks of one image) and a row may be
padding; every row of every example is counted exactly once.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

# (state, batch, key) -> float32 [b] by name; rows without mask are 0.
EvalStep = Callable[[Any, Mapping[str, Any], jax.Array], Mapping[str, Any]]

BITS = "bits"
# What bits are divided by, as (name of the sum, name of the rate).
UNITS = (("elements", "per_element"), ("pixels", "per_pixel"))


@dataclasses.dataclass(frozen=True)
class Sums:
  """Sums by example.

  Attributes:
    example_ids: int64 [n], ascending, each example once.
    rows: int64 [n], the number of rows of each.
    sums: float64 [n] by name.
  """

  example_ids: np.ndarray
  rows: np.ndarray
  sums: dict[str, np.ndarray]

  def __len__(self) -> int:
    return len(self.example_ids)

  def totals(self) -> dict[str, float]:
    """Add each sum up over the examples."""
    return {name: float(values.sum()) for name, values in self.sums.items()}

  def nonfinite(self) -> list[str]:
    """Name up to ten sums that are nan or infinite, with their example."""
    return [
      f"{name} of example {self.example_ids[i]}"
      for name, values in self.sums.items()
      for i in np.flatnonzero(~np.isfinite(values))
    ][:10]


def measure(
  eval_step: EvalStep,
  state: Any,
  batches: Iterable[Mapping[str, jax.Array]],
  key: jax.Array,
) -> Sums:
  """Sum `eval_step` over global `batches`, on every process alike.

  Args:
    eval_step: a task's; give it jitted. The key is the same for every batch,
      so that the result does not depend on how rows are grouped.
    state: of the task.
    batches: with `example_id` [b] and `mask` [b], global arrays.
    key: passed on.
  Raises:
    ValueError: no rows, or a batch without `example_id` or `mask`.
  """
  parts, waiting = [], None
  for batch in batches:
    missing = {"example_id", "mask"} - set(batch)
    if missing:
      raise ValueError(
        f"the batch lacks {', '.join(sorted(missing))}: evaluate batches of "
        "data.pipeline.eval_batches"
      )
    running = {
      "rows": dict(eval_step(state, batch, key)),
      "example_id": batch["example_id"],
      "mask": batch["mask"],
    }
    # Fetched one batch late: the devices never wait for the host.
    if waiting is not None:
      parts.append(_fetch(waiting))
    waiting = running
  if waiting is not None:
    parts.append(_fetch(waiting))
  if not any(len(ids) for ids, _ in parts):
    raise ValueError("no rows to evaluate: the split is empty")
  return _by_example(parts)


def rates(sums: Sums, total_of: Sequence[str] = ()) -> dict[str, float]:
  """Divide bits by elements, pixels and images.

  Args:
    sums: of `measure`; names that begin with `bits` are divided.
    total_of: the names that add up to the whole cost, reported as `bits`.
  Returns:
    `bits_channel_per_element`, ..., `bits_per_element`, `bits_per_pixel`,
    `bits_per_image`, and the means a number of `rows_per_image`, ....
  """
  totals = sums.totals()
  bits = {name: x for name, x in totals.items() if name.startswith(BITS)}
  if total_of:
    bits[BITS] = sum(totals[name] for name in total_of)
  found = {}
  for name, value in bits.items():
    for unit, suffix in UNITS:
      if totals.get(unit):
        found[f"{name}_{suffix}"] = value / totals[unit]
    found[f"{name}_per_image"] = value / len(sums)
  for name, value in totals.items():
    if name not in bits:
      found[f"{name}_per_image"] = value / len(sums)
  found["rows_per_image"] = float(sums.rows.sum()) / len(sums)
  return found


def _fetch(running):
  """Fetch one batch from all processes, and drop the padding."""
  if jax.process_count() > 1:
    running = multihost_utils.process_allgather(running, tiled=True)
  else:
    running = jax.device_get(running)
  mask = np.asarray(running["mask"], bool)
  ids = np.asarray(running["example_id"], np.int64)[mask]
  rows = {
    name: np.asarray(values, np.float64)[mask]
    for name, values in running["rows"].items()
  }
  return ids, rows


def _by_example(parts) -> Sums:
  ids = np.concatenate([ids for ids, _ in parts])
  unique, inverse, counts = np.unique(
    ids, return_inverse=True, return_counts=True
  )
  sums = {}
  for name in parts[0][1]:
    values = np.concatenate([rows[name] for _, rows in parts])
    sums[name] = np.bincount(inverse, weights=values, minlength=len(unique))
  return Sums(unique, counts, sums)
