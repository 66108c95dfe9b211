"""How codebooks begin, stay alive, and how well they are used.

Pure functions on a quantizer's parameters, which a train step calls after its
optimiser. Shapes: b batch, h w grid, c width of a latent, v codes.
"""

from collections.abc import Iterable

import flax
import jax
import jax.numpy as jnp
import numpy as np


@flax.struct.dataclass
class Seen:
  """What one step saw of the codes, to update the codebook from.

  Attributes:
    counts: float32 [v], latents that chose each code, without noise.
    sums: float32 [v, c], their sums.
    candidates: float32 [v, c], latents drawn at random.
  """

  counts: jax.Array
  sums: jax.Array
  candidates: jax.Array


def count(codes, num_codes):
  """Return how often each code occurs, float32 [v]."""
  return jnp.zeros(num_codes, jnp.float32).at[codes.reshape(-1)].add(1.0)


def observe(quantizer, z, codes, key):
  """Return `Seen` of latents z [b, h, w, c], `likeliest` codes [b, h, w]."""
  z = quantizer.normal(z).reshape(-1, quantizer.width)
  size = quantizer.num_codes
  sums = candidates = jnp.zeros((0, quantizer.width), jnp.float32)
  if quantizer.average:
    sums = jnp.zeros((size, quantizer.width), jnp.float32)
    sums = sums.at[codes.reshape(-1)].add(z)
  if quantizer.restart:
    candidates = z[jax.random.randint(key, (size,), 0, z.shape[0])]
  return Seen(count(codes, size), sums, candidates)


def initial_state(quantizer, params):
  """Return the counters beside the quantizer's parameters.

  They are the steps since the last use of each code and, where the codebook
  is a moving average, the averaged counts and sums.
  """
  state = {"idle": jnp.zeros(quantizer.num_codes, jnp.int32)}
  if quantizer.average:
    state["counts"] = jnp.ones(quantizer.num_codes, jnp.float32)
    state["sums"] = params["codebook"]
  return state


def idle_steps(state, seen):
  """Return the steps since the last use of each code, int32 [v]."""
  return jnp.where(seen.counts > 0, 0, state["idle"] + 1)


def update(quantizer, params, state, seen, smoothed=None):
  """Move averaged codes and restart dead ones, after an optimiser's update.

  Args:
    quantizer: its settings.
    params: its parameters.
    state: see `initial_state`.
    seen: `Seen` of the step. A code is dead every `dead_after` steps that it
      has not been used: one that was put on a latent in vain moves again.
    smoothed: a moving average of params, or None. Restarted codes jump in it
      too, for an average of an old and a new place is neither.

  Returns:
    (params, state, smoothed).
  """
  idle = idle_steps(state, seen)
  state = {**state, "idle": idle}
  if quantizer.average:
    mix = lambda old, new: quantizer.decay * old + (1 - quantizer.decay) * new
    counts = mix(state["counts"], seen.counts)
    sums = mix(state["sums"], seen.sums)
    alive = counts > 1e-6
    mean = sums / jnp.where(alive, counts, 1.0)[:, None]
    params = quantizer.place(params, alive, mean)
    state = {**state, "counts": counts, "sums": sums}
  if quantizer.restart:
    dead = (idle > 0) & (idle % quantizer.dead_after == 0)
    params = quantizer.place(params, dead, seen.candidates)
    if smoothed is not None:
      smoothed = quantizer.place(smoothed, dead, seen.candidates)
    if quantizer.average:
      state["counts"] = jnp.where(dead, 1.0, state["counts"])
      state["sums"] = jnp.where(dead[:, None], seen.candidates, state["sums"])
  return params, state, smoothed


def seed(quantizer, params, latents, key):
  """Put every code on one of the latents [n, c], drawn without repetition.

  The authors' initialisation, U(+-1/v), leaves most codes without use for
  ever. Where n < v latents are used more than once, a little apart.

  Returns:
    The quantizer's parameters.
  """
  latents = quantizer.normal(latents)
  size, num = quantizer.num_codes, latents.shape[0]
  order_key, noise_key = jax.random.split(key)
  order = jax.random.permutation(order_key, num)
  chosen = latents[jnp.resize(order, size)]  # [v, c]
  if num < size:
    noise = jax.random.normal(noise_key, chosen.shape)
    chosen += 0.1 * jnp.std(latents, axis=0) * noise
  return quantizer.place(params, jnp.ones(size, bool), chosen)


def usage(counts, idle=None, dead_after=0):
  """Say how well the codes are used.

  Args:
    counts: float [v], uses of each code.
    idle: int [v], steps since the last use, or None.
    dead_after: idle steps that make a code dead.

  Returns:
    Float32 scalars: "used" (codes with any use), "perplexity" (exp of the
    entropy; v for uniform use) and, given `idle`, "dead" (codes that none of
    the last `dead_after` steps used, restarted meanwhile or not).
  """
  p = counts / jnp.maximum(jnp.sum(counts), 1.0)
  entropy = -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), 0))
  values = {
    "used": jnp.sum(counts > 0).astype(jnp.float32),
    "perplexity": jnp.exp(entropy),
  }
  if idle is not None:
    values["dead"] = jnp.sum(idle >= dead_after).astype(jnp.float32)
  return values


def evenly(rows: Iterable[np.ndarray], count: int) -> np.ndarray:
  """Return `count` rows evenly spaced over a stream, or all where it has less.

  Never more than twice as many are held. Datasets are often sorted by class.
  """
  held, stride = [], 1
  for i, row in enumerate(rows):
    if i % stride == 0:
      held.append(row)
    if len(held) == 2 * count:
      held, stride = held[::2], 2 * stride
  if len(held) > count:
    held = [held[i * len(held) // count] for i in range(count)]
  return np.stack(held) if held else np.zeros(0)
