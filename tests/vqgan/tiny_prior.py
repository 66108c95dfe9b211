"""A prior that compiles in a second, its parameters from NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from vqgan import prior


def make(**changes):
  """Return a prior over 11 codes for 12 codes and up to 6 prefix slots."""
  fields = {"num_codes": 11, "length": 17, "layers": 2, "width": 16, "heads": 2}
  return prior.Prior(**{**fields, **changes})


def init(model, *inputs, seed=0, scale=0.3):
  """Fill a model's parameters, far enough from 0 that everything matters."""
  shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
  random = np.random.default_rng(seed)
  fill = lambda leaf: jnp.asarray(random.normal(0, scale, leaf.shape), "f4")
  return jax.tree.map(fill, shapes)


def inputs(model, batch=2, length=12, num_tokens=0, seed=0):
  """Return random (codes, condition, label) for a model."""
  random = np.random.default_rng(seed)
  codes = random.integers(0, model.num_codes, (batch, length))
  high = model.num_codes if model.shared else model.num_conditions
  condition = random.integers(0, max(high, 1), (batch, num_tokens))
  label = random.integers(0, max(model.num_classes, 1), (batch,))
  as_int = lambda x: jnp.asarray(x, jnp.int32)
  return (
    as_int(codes),
    as_int(condition) if num_tokens else None,
    as_int(label) if model.num_classes else None,
  )
