"""The training step as the loop compiles it: a non-finite update left out."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from training import metrics as metrics_lib
from training import state as state_lib
from training import task as task_lib


def train_step(
  task: task_lib.Task,
  skip: bool,
  state: state_lib.State,
  batch: Any,
  key: jax.Array,
) -> tuple[state_lib.State, metrics_lib.Metrics]:
  """Take `task.train_step`; `frozen` stays what it is.

  With `skip` an update that gives anything not finite, in the metrics or in
  the state, is left out on the device: only `step` moves, the step's metrics
  count nothing, and `train/skipped` says so.
  """
  new, metrics = task.train_step(state, batch, key)
  new = new.replace(frozen=state.frozen)
  if not skip:
    return new, metrics
  moved, still = new.replace(frozen={}), state.replace(frozen={})
  good = metrics_lib.all_finite(metrics) & metrics_lib.tree_all_finite(moved)
  kept = jax.tree.map(lambda a, b: jnp.where(good, a, b), moved, still)
  new = kept.replace(step=new.step, frozen=state.frozen)
  metrics = {name: metrics_lib.as_mean(x) for name, x in metrics.items()}
  metrics = jax.tree.map(lambda x: jnp.where(good, x, 0.0), metrics)
  skipped = metrics_lib.Mean(1.0 - good.astype(jnp.float32), 1.0)
  return new, metrics | {"train/skipped": skipped}


@functools.partial(jax.jit, donate_argnums=0)
def leave_out(state: state_lib.State) -> state_lib.State:
  """Count a step without its update."""
  return state.replace(step=state.step + 1)
