"""A tiny hourglass, filled by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from layers import transformer
from sundae import model

GRID = (4, 4)
NUM_CODES = 7


def make_model(grid=GRID, num_codes=NUM_CODES, shape=None, **fields):
  """Return a small hourglass: two heads, one layer at a time."""
  given = {"num_heads": 2, "head_width": 8, **(shape or {})}
  return model.Hourglass(
    grid,
    num_codes,
    transformer.Shape(
      width=16, gate=None, qkv_bias=False, epsilon=1e-5, **given
    ),
    **{"layers": (1, 1, 1), **fields},
  )


def init(net, seed=0, scale=0.3):
  """Fill the parameters by NumPy: compiling `init` takes seconds.

  Weights are large enough for every part to matter.
  """
  codes = jnp.zeros((1, *net.grid), jnp.int32)
  label = jnp.zeros((1,), jnp.int32)
  shapes = jax.eval_shape(net.init, jax.random.key(0), codes, label)
  rng = np.random.default_rng(seed)

  def fill(path, leaf):
    constant = {"scale": 1.0, "bias": 0.0}.get(path[-1].key)
    if constant is not None:
      return jnp.full(leaf.shape, constant, jnp.float32)
    return jnp.asarray(rng.normal(0, scale, leaf.shape), jnp.float32)

  return jax.tree_util.tree_map_with_path(fill, shapes)


def codes(count, grid=GRID, num_codes=NUM_CODES, seed=0):
  """Return random codes int32 [b, h, w]."""
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.integers(0, num_codes, (count, *grid)), jnp.int32)
