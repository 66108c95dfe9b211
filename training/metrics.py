"""Metrics that merge: a mean is a total and a count until it is printed.

Names are flat, `group/name`, with the unit in the name. A step returns
`dict[str, Mean | scalar]`; a plain scalar counts as the mean of one value.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np


@flax.struct.dataclass
class Mean:
  """A mean in the making: float32 scalars `total` and `count`."""

  total: Any
  count: Any

  @classmethod
  def of(cls, values: jax.Array, mask: jax.Array | None = None) -> "Mean":
    """Sum `values` [...], weighted by `mask` [...] (bool or float)."""
    values = jnp.asarray(values, jnp.float32)
    if mask is None:
      return cls(jnp.sum(values), jnp.float32(values.size))
    weights = jnp.broadcast_to(mask, values.shape).astype(jnp.float32)
    # A masked value may be inf or nan (log 0 on padding): drop it, since
    # 0 * inf is nan.
    kept = jnp.where(weights != 0, values, 0.0)
    return cls(jnp.sum(kept * weights), jnp.sum(weights))

  def merge(self, other: "Mean") -> "Mean":
    """Add totals and counts."""
    return Mean(self.total + other.total, self.count + other.count)

  def value(self) -> Any:
    """Divide; the mean of nothing is nan."""
    return self.total / self.count


Metrics = Mapping[str, Any]


def as_mean(value: Any) -> Mean:
  """Wrap a scalar as the mean of one value; leave a `Mean` alone."""
  if isinstance(value, Mean):
    return value
  return Mean(value, 1.0)


def merge(parts: Iterable[Metrics]) -> dict[str, Mean]:
  """Merge metrics by name; a name may be missing from some parts."""
  merged: dict[str, Mean] = {}
  for part in parts:
    for name, value in part.items():
      mean = as_mean(value)
      merged[name] = merged[name].merge(mean) if name in merged else mean
  return merged


def merge_stacked(stacked: Metrics) -> dict[str, Mean]:
  """Merge metrics whose leaves have a leading axis [t, ...] (from a scan)."""
  merged = {}
  for name, value in stacked.items():
    if isinstance(value, Mean):
      merged[name] = Mean(jnp.sum(value.total, 0), jnp.sum(value.count, 0))
    else:
      merged[name] = Mean(jnp.sum(value, 0), jnp.float32(value.shape[0]))
  return merged


def to_host(metrics: Metrics) -> dict[str, Mean]:
  """Fetch from the devices (blocks) as `Mean`s of Python floats."""
  fetched = jax.device_get(dict(metrics))
  return {
    name: Mean(float(mean.total), float(mean.count))
    for name, mean in ((n, as_mean(v)) for n, v in fetched.items())
  }


def values(metrics: Metrics) -> dict[str, float]:
  """Divide on the host; metrics that counted nothing are left out."""
  means = {name: as_mean(value) for name, value in metrics.items()}
  return {
    name: float(mean.total) / float(mean.count)
    for name, mean in means.items()
    if mean.count != 0
  }


def nonfinite(metrics: Metrics) -> list[str]:
  """Name the host metrics that are nan or infinite."""
  return [
    name
    for name, value in metrics.items()
    if not all(
      math.isfinite(x) for x in (as_mean(value).total, as_mean(value).count)
    )
  ]


def all_finite(metrics: Metrics) -> jax.Array:
  """Say on the device whether every metric is finite: bool scalar."""
  leaves = [jnp.isfinite(x).all() for x in jax.tree.leaves(dict(metrics))]
  return jnp.stack(leaves).all() if leaves else jnp.bool_(True)


def tree_all_finite(tree: Any) -> jax.Array:
  """Say whether every inexact array of a tree is finite: bool scalar."""
  leaves = [
    jnp.isfinite(x).all()
    for x in jax.tree.leaves(tree)
    if jnp.issubdtype(x.dtype, np.inexact)
  ]
  return jnp.stack(leaves).all() if leaves else jnp.bool_(True)
