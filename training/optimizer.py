"""Optimisers, schedules, gradient accumulation and the update of a state."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from einops import rearrange

from training import metrics as metrics_lib
from training import state as state_lib

SCHEDULES = ("constant", "cosine", "linear", "rsqrt")
OPTIMIZERS = ("adam", "adamw", "sgd")


def make_schedule(
  *,
  peak: float,
  warmup_steps: int = 0,
  total_steps: int | None = None,
  schedule: str = "cosine",
  final: float = 0.0,
) -> optax.Schedule:
  """Build a learning-rate schedule: linear warm-up, then a decay.

  Step 0 has peak / (warmup_steps + 1), so that no step is wasted.

  Args:
    peak: the highest learning rate, reached at `warmup_steps`.
    warmup_steps: steps of the warm-up.
    total_steps: the step at which cosine and linear reach `final`.
    schedule: constant | cosine | linear | rsqrt. The last is
      peak * sqrt(warmup / max(step, warmup)) (Vaswani et al. 2017, sec. 5.3).
    final: the last learning rate, as a fraction of `peak`.
  Raises:
    ValueError: an unknown schedule, or no room for the decay.
  """
  if schedule not in SCHEDULES:
    raise ValueError(
      f"unknown schedule {schedule!r}: choose one of {', '.join(SCHEDULES)}"
    )
  decays = schedule in ("cosine", "linear")
  total = total_steps or 0
  if decays and total <= warmup_steps:
    raise ValueError(
      f"total_steps {total_steps} must exceed warmup_steps {warmup_steps} for "
      f"the {schedule} schedule: lengthen the run or shorten the warm-up"
    )

  def learning_rate(count):
    count = jnp.asarray(count, jnp.float32)
    warm = jnp.minimum(1.0, (count + 1) / (warmup_steps + 1))
    if schedule == "rsqrt":
      start = max(warmup_steps, 1)
      return peak * warm * jnp.sqrt(start / jnp.maximum(count, start))
    if not decays:
      return peak * warm
    done = (count - warmup_steps) / (total - warmup_steps)
    left = 1.0 - jnp.clip(done, 0.0, 1.0)
    if schedule == "cosine":
      left = 0.5 * (1.0 - jnp.cos(jnp.pi * left))
    return peak * warm * (final + (1.0 - final) * left)

  return learning_rate


def make(
  *,
  name: str = "adam",
  peak: float,
  warmup_steps: int = 0,
  total_steps: int | None = None,
  schedule: str = "cosine",
  final: float = 0.0,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
  weight_decay: float = 0.0,
  decay_mask: Any = None,
  clip_norm: float | None = None,
) -> optax.GradientTransformation:
  """Build clip -> adam | adamw | sgd -> learning rate.

  Args:
    name: adam | adamw | sgd (momentum `b1`).
    peak: see `make_schedule`, as are the next four.
    warmup_steps: steps of the warm-up.
    total_steps: length of the run.
    schedule: name of the schedule.
    final: last learning rate as a fraction of `peak`.
    b1: decay of the first moment.
    b2: decay of the second moment.
    eps: added to the root of the second moment.
    weight_decay: decoupled, multiplied by the learning rate (adamw only;
      Loshchilov & Hutter 2019).
    decay_mask: tree of bools or a function from params to one; by default
      arrays of two dimensions or more decay, so biases and gains do not.
    clip_norm: clip the global norm of the gradients; None or 0 does not.
  Raises:
    ValueError: an unknown optimiser, or weight decay without adamw.
  """
  if name not in OPTIMIZERS:
    raise ValueError(
      f"unknown optimizer {name!r}: choose one of {', '.join(OPTIMIZERS)}"
    )
  if weight_decay and name != "adamw":
    raise ValueError(
      f"weight_decay {weight_decay} needs optimizer adamw, not {name}: "
      "set weight_decay to 0 or name to adamw"
    )
  chain = []
  if clip_norm:
    chain.append(optax.clip_by_global_norm(clip_norm))
  if name == "sgd":
    chain.append(optax.trace(decay=b1))
  else:
    chain.append(optax.scale_by_adam(b1=b1, b2=b2, eps=eps))
  if name == "adamw":
    mask = matrices if decay_mask is None else decay_mask
    chain.append(optax.add_decayed_weights(weight_decay, mask))
  chain.append(
    _scale_by_learning_rate(
      make_schedule(
        peak=peak,
        warmup_steps=warmup_steps,
        total_steps=total_steps,
        schedule=schedule,
        final=final,
      )
    )
  )
  return optax.chain(*chain)


def matrices(params: Any) -> Any:
  """Mark the arrays of two or more dimensions: a tree of bools."""
  return jax.tree.map(lambda x: x.ndim >= 2, params)


def kernels(params: Any) -> Any:
  """Mark the kernels of matrix products: no bias, norm, table: bools."""
  is_kernel = lambda path, leaf: path[-1].key == "kernel"
  return jax.tree_util.tree_map_with_path(is_kernel, params)


def everything(params: Any) -> Any:
  """Mark all arrays: a tree of bools."""
  return jax.tree.map(lambda _: True, params)


def accumulate(
  loss_fn: Callable[..., tuple[Any, Mapping[str, Any]]],
  num: int,
  params: Any,
  batch: Any,
  key: jax.Array,
) -> tuple[tuple[jax.Array, dict[str, Any]], Any]:
  """Average loss and gradients over `num` pieces of a batch, in a scan.

  The result is that of the whole batch, also when the pieces count different
  numbers of elements: totals and gradients of totals are summed and divided by
  the summed count once.

  Args:
    loss_fn: (params, piece, key) -> (loss, metrics). The loss is a `Mean`
      whose count does not depend on `params`, or a scalar (every piece then
      weighs the same).
    num: pieces; has to divide the leading axis of every array in `batch`.
    params: differentiated.
    batch: tree of arrays [b, ...]; piece i holds the rows i, i + num, ..., so
      that every device keeps its own rows.
    key: piece i gets `fold_in(key, i)`.
  Returns:
    ((loss, metrics), grads), metrics as merged `Mean`s.
  Raises:
    ValueError: `num` does not divide the batch.
  """
  for size in {x.shape[0] for x in jax.tree.leaves(batch)}:
    check_pieces(num, size)

  def total(params, piece, key):
    loss, metrics = loss_fn(params, piece, key)
    loss = metrics_lib.as_mean(loss)
    metrics = {name: metrics_lib.as_mean(x) for name, x in metrics.items()}
    count = jnp.asarray(loss.count, jnp.float32)
    return loss.total, (jax.lax.stop_gradient(count), metrics)

  grad_fn = jax.value_and_grad(total, has_aux=True)

  def one(carry, xs):
    i, piece = xs
    (loss, (count, metrics)), grads = grad_fn(
      params, piece, jax.random.fold_in(key, i)
    )
    carry = jax.tree.map(jnp.add, carry, (loss, count, grads))
    return carry, metrics

  if num == 1:
    zero = jnp.zeros((), jnp.uint32)
    (loss, (count, metrics)), grads = grad_fn(
      params, batch, jax.random.fold_in(key, zero)
    )
  else:
    pieces = jax.tree.map(
      lambda x: rearrange(x, "(b n) ... -> n b ...", n=num), batch
    )
    start = (
      jnp.zeros((), jnp.float32),
      jnp.zeros((), jnp.float32),
      jax.tree.map(jnp.zeros_like, params),
    )
    (loss, count, grads), metrics = jax.lax.scan(
      one, start, (jnp.arange(num, dtype=jnp.uint32), pieces)
    )
    metrics = metrics_lib.merge_stacked(metrics)
  # A batch that counts nothing gives zero gradients, not nan.
  scale = 1.0 / jnp.where(count == 0, 1.0, count)
  grads = jax.tree.map(lambda g: g * scale.astype(g.dtype), grads)
  return (loss * scale, metrics), grads


def check_pieces(num: int, batch_size: int) -> None:
  """Raise ValueError where a batch has no `num` pieces of one size."""
  if num < 1 or batch_size % num:
    raise ValueError(f"accumulate {num} must divide batch_size {batch_size}")


def apply_gradients(
  params: Any,
  opt_state: Any,
  tx: optax.GradientTransformation,
  grads: Any,
  prefix: str = "train",
) -> tuple[Any, Any, dict[str, jax.Array]]:
  """Update parameters: (params, opt_state, metrics).

  For tasks with several optimisers; others use `update`. Metrics are
  `grad_norm` (before clipping), `update_norm` and `learning_rate`.
  """
  updates, opt_state = tx.update(grads, opt_state, params)
  metrics = {
    f"{prefix}/grad_norm": global_norm(grads),
    f"{prefix}/update_norm": global_norm(updates),
  }
  rate = learning_rate(opt_state)
  if rate is not None:
    metrics[f"{prefix}/learning_rate"] = rate
  return optax.apply_updates(params, updates), opt_state, metrics


def global_norm(tree: Any) -> jax.Array:
  """Take the root of the sum of all squares: float32 scalar."""
  squares = [
    jnp.sum(jnp.square(jnp.abs(x).astype(jnp.float32)))
    for x in jax.tree.leaves(tree)
  ]
  return jnp.sqrt(sum(squares, jnp.float32(0.0)))


def update(
  state: state_lib.State,
  tx: optax.GradientTransformation,
  grads: Any,
  ema_decay: float | None = None,
  ema_warmup: bool = True,
) -> tuple[state_lib.State, dict[str, jax.Array]]:
  """Take the optimiser's step: (state with `step` + 1, metrics).

  Args:
    state: before the step.
    tx: its optimiser.
    grads: like `state.params`.
    ema_decay: needed if the state keeps an average.
    ema_warmup: see `ema`.
  Raises:
    ValueError: the state keeps an average and `ema_decay` is None.
  """
  params, opt_state, metrics = apply_gradients(
    state.params, state.opt_state, tx, grads
  )
  average = state.ema
  if average is not None:
    if ema_decay is None:
      raise ValueError(
        "the state keeps an average but ema_decay is None: pass the decay or "
        "create the state with ema=False"
      )
    average = ema(average, params, ema_decay, state.step, ema_warmup)
  state = state.replace(
    step=state.step + 1, params=params, ema=average, opt_state=opt_state
  )
  return state, metrics


def apply_updates(
  state: state_lib.State,
  tx: optax.GradientTransformation,
  grads: Any,
  ema_decay: float | None = None,
) -> state_lib.State:
  """Take the optimiser's step, without its metrics (see `update`)."""
  return update(state, tx, grads, ema_decay)[0]


def ema(
  average: Any, params: Any, decay: float, step: jax.Array, warmup: bool = True
) -> Any:
  """Move an average towards `params`.

  With `warmup` the decay is min(decay, (1 + step) / (10 + step)), so that the
  random start is forgotten quickly.
  """
  rate = jnp.float32(1.0 - decay)
  if warmup:
    # 1 - (1 + step) / (10 + step)
    rate = jnp.maximum(rate, 9.0 / (10.0 + step.astype(jnp.float32)))
  return jax.tree.map(
    lambda a, p: a + rate.astype(a.dtype) * (p - a), average, params
  )


def learning_rate(opt_state: Any) -> jax.Array | None:
  """Find the last learning rate in an optimiser's state; None if not kept."""
  found = [
    leaf.learning_rate
    for leaf in jax.tree.leaves(
      opt_state, is_leaf=lambda x: isinstance(x, _RateState)
    )
    if isinstance(leaf, _RateState)
  ]
  return found[0] if found else None


class _RateState(NamedTuple):
  count: jax.Array
  learning_rate: jax.Array


def _scale_by_learning_rate(
  schedule: optax.Schedule,
) -> optax.GradientTransformation:
  """Multiply by minus the learning rate, and remember it for the metrics."""

  def init(params):
    del params
    zero = jnp.zeros((), jnp.int32)
    return _RateState(zero, jnp.asarray(schedule(zero), jnp.float32))

  def update(updates, state, params=None):
    del params
    rate = jnp.asarray(schedule(state.count), jnp.float32)
    updates = jax.tree.map(lambda u: -rate.astype(u.dtype) * u, updates)
    return updates, _RateState(state.count + 1, rate)

  return optax.GradientTransformation(init, update)
