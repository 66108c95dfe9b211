"""One training step of the first stage: one backward pass, two optimisers.

The gradients of the reconstruction and of the adversarial loss with respect
to the image are computed first. Their norms at the last convolution give the
adaptive weight, their weighted sum starts the only backward pass through the
autoencoder. `task` is a `vqgan.task.VQGANTask` throughout.
"""

import jax
import jax.numpy as jnp
from einops import rearrange

from training import metrics as metrics_lib
from training import optimizer as optimizer_lib
from vqgan import codebook
from vqgan import quantizer as quantizer_lib


def train(task, state, batch, key):
  """Update the autoencoder, its codebook and the discriminator.

  Args:
    task: settings.
    state: before the step.
    batch: see `vqgan.task`.
    key: the same at every step.

  Returns:
    (state, metrics).
  """
  key = jax.random.fold_in(key, state.step)
  pixels = task.pixels(batch)
  adversary = task.adversary
  params, opt_state = dict(state.params), dict(state.opt_state)
  model_state = dict(state.model_state)

  learn_here = adversary is not None and adversary.same_forward
  carry = _zeros(state, "generator")
  if learn_here:
    carry |= _zeros(state, "discriminator")
  carry, metrics, seen = _over_pieces(
    lambda carry, *piece: _both(task, state, learn_here, carry, *piece),
    carry,
    pixels,
    task.accumulate,
    key,
  )
  grads = _mean(carry["generator"], task.accumulate)
  params["generator"], opt_state["generator"], updated = (
    optimizer_lib.apply_gradients(
      state.params["generator"],
      state.opt_state["generator"],
      task.tx,
      grads,
      "generator",
    )
  )
  metrics |= updated
  ema = state.ema
  if ema is not None:
    ema = {
      "generator": optimizer_lib.ema(
        ema["generator"], params["generator"], task.ema_decay, state.step
      )
    }
  params, model_state["quantizer"], ema = _update_codes(
    task, state, params, ema, seen
  )
  metrics |= _usage(task, state, seen)

  if adversary is not None:
    if not learn_here:
      carry, told, _ = _over_pieces(
        lambda carry, *piece: _critic_alone(
          task, state, params["generator"], carry, *piece
        ),
        _zeros(state, "discriminator"),
        pixels,
        task.accumulate,
        key,
      )
      metrics |= told
    model_state["discriminator"] = carry["state"]
    grads = _mean(carry["discriminator"], task.accumulate)
    params["discriminator"], opt_state["discriminator"], updated = (
      _update_critic(task, state, grads)
    )
    metrics |= updated
  state = state.replace(
    step=state.step + 1,
    params=params,
    ema=ema,
    opt_state=opt_state,
    model_state=model_state,
  )
  return state, metrics


def _both(task, state, learn_here, carry, pixels, key):
  """Add the gradients of a piece: of the autoencoder, and of the critic."""
  keys = jax.random.split(key, 3)
  critic_state = carry.get("state", state.model_state.get("discriminator"))
  grads, (made, z, codes, metrics) = jax.grad(
    _autoencoder_loss, argnums=1, has_aux=True
  )(task, state.params["generator"], state, critic_state, pixels, keys[0])
  grads = jax.tree.map(jnp.add, carry["generator"], grads)
  carry = {**carry, "generator": grads}
  seen = codebook.observe(task.model.quantizer, z, codes, keys[1])
  if learn_here:
    carry, told = _critic(task, state, carry, pixels, made, keys[2])
    metrics |= told
  return carry, metrics, seen


def _autoencoder_loss(task, generator, state, critic_state, pixels, key):
  """Return a scalar with the right gradient, and what else came out.

  The scalar is the inner product of the image with the gradient that it is
  to have, plus the quantizer's loss.
  """
  fixed = jax.lax.stop_gradient
  made, features, z, quantized = _forward(task, generator, state, pixels, key)
  (loss, metrics), gradient = jax.value_and_grad(
    lambda made: task.reconstruction(state.frozen, made, pixels), has_aux=True
  )(fixed(made))
  metrics["train/loss"] = loss + task.codebook_weight * quantized.loss
  for name, term in quantized.terms.items():
    metrics[f"train/{name}"] = term
  if task.adversary is not None:
    more, told = task.adversary.gradient(
      state.params["discriminator"],
      critic_state,
      fixed(made),
      fixed(features),
      gradient,
      state.step,
      jax.random.fold_in(key, 2),
    )
    gradient += more
    metrics |= told
  scalar = jnp.sum(made * fixed(gradient))
  scalar += task.codebook_weight * quantized.loss
  return scalar, (made, z, quantized.likeliest, metrics)


def _critic_alone(task, state, generator, carry, pixels, key):
  """Add the critic's gradients on reconstructions by the new autoencoder."""
  keys = jax.random.split(key, 3)
  made = _forward(task, generator, state, pixels, keys[0])[0]
  carry, metrics = _critic(task, state, carry, pixels, made, keys[2])
  return carry, metrics, None


def _critic(task, state, carry, pixels, made, key):
  grads, critic_state, metrics = task.adversary.learn(
    state.params["discriminator"],
    carry["state"],
    pixels,
    jax.lax.stop_gradient(made),
    state.step,
    key,
  )
  grads = jax.tree.map(jnp.add, carry["discriminator"], grads)
  return {**carry, "discriminator": grads, "state": critic_state}, metrics


def _forward(task, generator, state, pixels, key):
  rngs = {
    "dropout": jax.random.fold_in(key, 0),
    "gumbel": jax.random.fold_in(key, 1),
  }
  temperature = quantizer_lib.temperature(state.step, *task.temperature)
  return task.apply(
    generator, pixels, train=True, temperature=temperature, rngs=rngs
  )


def _update_codes(task, state, params, ema, seen):
  """Return (params, quantizer's state, ema) with the codebook kept alive."""
  generator = params["generator"]
  codes, counters = generator.get("quantizer"), state.model_state["quantizer"]
  smoothed = None if ema is None else ema["generator"].get("quantizer")
  updated = codebook.update(
    task.model.quantizer, codes, counters, seen, smoothed
  )
  if codes is None:  # the quantizer has nothing to learn
    return params, updated[1], ema
  if task.adversary is not None and task.adversary.freeze_codebook:
    frozen = task.adversary.learns(state.step)
    updated = jax.tree.map(
      lambda old, new: jnp.where(frozen, old, new),
      _frozen_codes(task, state, seen),
      updated,
    )
  codes, counters, smoothed = updated
  params = {**params, "generator": {**generator, "quantizer": codes}}
  if ema is not None:
    ema = {"generator": {**ema["generator"], "quantizer": smoothed}}
  return params, counters, ema


def _frozen_codes(task, state, seen):
  """Return what `codebook.update` would, of codes that rest."""
  codes = state.params["generator"]["quantizer"]
  counters = state.model_state["quantizer"]
  counters = {**counters, "idle": codebook.idle_steps(counters, seen)}
  if state.ema is None:
    return codes, counters, None
  smoothed = optimizer_lib.ema(
    state.ema["generator"]["quantizer"], codes, task.ema_decay, state.step
  )
  return codes, counters, smoothed


def _update_critic(task, state, grads):
  """Return (params, opt_state, metrics); unchanged before its start."""
  critic = state.params["discriminator"]
  moments = state.opt_state["discriminator"]
  update = lambda params, moments, grads: optimizer_lib.apply_gradients(
    params, moments, task.adversary_tx, grads, "discriminator"
  )
  shapes = jax.eval_shape(update, critic, moments, grads)[2]
  nothing = {name: jnp.zeros(x.shape, x.dtype) for name, x in shapes.items()}
  return jax.lax.cond(
    task.adversary.learns(state.step),
    update,
    lambda params, moments, grads: (params, moments, nothing),
    critic,
    moments,
    grads,
  )


def _usage(task, state, seen):
  """Return how the batch used the codes, and how many the last steps left.

  `codes/dead` are those that none of the last `dead_after` steps used. What
  counts is what evaluation would use: Gumbel noise draws every code.
  """
  idle = codebook.idle_steps(state.model_state["quantizer"], seen)
  usage = codebook.usage(seen.counts, idle, task.model.quantizer.dead_after)
  return {f"codes/{name}": value for name, value in usage.items()}


def _zeros(state, name):
  """Return the start of a sum of gradients, and the critic's state."""
  start = {name: jax.tree.map(jnp.zeros_like, state.params[name])}
  if name == "discriminator":
    start["state"] = state.model_state["discriminator"]
  return start


def _mean(grads, num):
  return jax.tree.map(lambda x: x / num, grads)


def _over_pieces(function, carry, pixels, num, key):
  """Run (carry, pixels, key) -> (carry, metrics, seen) on pieces of a batch.

  Piece i has the rows i, i + num, ..., so that every device keeps its own.

  Returns:
    (carry, metrics, seen) with counts and sums added up.

  Raises:
    ValueError: `num` does not divide the batch.
  """
  size = pixels.shape[0]
  if num < 1 or size % num:
    raise ValueError(
      f"accumulate {num} must divide the batch of {size} rows: change "
      "train.accumulate or train.batch_size"
    )
  if num == 1:
    return function(carry, pixels, key)

  def one(carry, xs):
    carry, metrics, seen = function(carry, *xs)
    return carry, (metrics, seen)

  pieces = rearrange(pixels, "(b n) ... -> n b ...", n=num)
  keys = jax.random.split(key, num)
  carry, (metrics, seen) = jax.lax.scan(one, carry, (pieces, keys))
  if seen is not None:
    seen = codebook.Seen(
      counts=seen.counts.sum(0),
      sums=seen.sums.sum(0),
      candidates=seen.candidates[-1],
    )
  return carry, metrics_lib.merge_stacked(metrics), seen
