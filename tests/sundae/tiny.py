"""A tiny hourglass, filled by NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from layers import transformer
from sundae import model, task
from training import state

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


@dataclasses.dataclass(frozen=True)
class Shades:
  """A tokenizer of shades of grey: a code is the mean shade of 2 x 2 pixels."""

  num_codes: int = NUM_CODES
  factor: int = 2
  grid: tuple[int, int] = GRID
  width: int = 1
  input: str = "image"

  def spec(self, batch_size):
    """Describe the rows."""
    h, w = self.grid
    return jax.ShapeDtypeStruct((batch_size, 2 * h, 2 * w, 1), jnp.uint8)

  def encode(self, params, rows):
    """Return the codes int32 [b, h, w] of rows of shades 10 apart."""
    del params
    return rows[:, ::2, ::2, 0].astype(jnp.int32) // 10

  def decode(self, params, codes):
    """Return pictures uint8 [b, 2h, 2w, 3]."""
    del params
    pixels = jnp.repeat(jnp.repeat(10 * codes, 2, axis=1), 2, axis=2)
    return jnp.repeat(pixels[..., None], 3, axis=3).astype(jnp.uint8)


def make_task(tx=None, model=None, **fields):
  """Return a task around `make_model` with two classes."""
  net = make_model(
    **{
      "num_classes": 2,
      "layers": (0, 1, 0),
      "resampling": "none",
      **(model or {}),
    }
  )
  return task.SundaeTask(net, Shades(), tx or optax.sgd(0.1), **fields)


def init_task(made, scale=0.3):
  """Return the task's state of step 0 with parameters from NumPy."""
  params = init(made.model, scale=scale)
  return state.State.create(params, made.tx, ema=made.ema_decay is not None)


def batch(count, seed=0):
  """Return a batch of codes with labels in turn."""
  ids = jnp.arange(count, dtype=jnp.int32)
  return {
    "codes": codes(count, seed=seed).astype(jnp.uint16),
    "label": ids % 2,
    "example_id": ids,
  }
