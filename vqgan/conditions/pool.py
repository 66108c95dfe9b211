"""Pictures and maps as coarse tokens, without a network.

The light way to give a prior a map: each cell of a grid becomes one token,
its most frequent label or its mean colour in a few levels. The paper encodes
maps by first stages of their own (`stage` of `vqgan.conditions.maps`).

Shapes: b batch, H W rows and columns in pixels, h w of the grid, c channels,
v labels.
"""

import jax
import jax.numpy as jnp
from einops import rearrange, reduce


def labels(x: jax.Array, grid: tuple[int, int], num_labels: int) -> jax.Array:
  """Return the most frequent label of each cell, int32 [b, h, w].

  Args:
    x: int [b, H, W], labels in 0..num_labels - 1.
    grid: h and w, divisors of H and W.
    num_labels: v.
  """
  check(x.shape[1:3], grid)
  cells = rearrange(
    x.astype(jnp.int32),
    "b (h i) (w j) -> (b h w) (i j)",
    h=grid[0],
    w=grid[1],
  )
  rows = jnp.arange(len(cells))[:, None]
  counts = jnp.zeros((len(cells), num_labels), jnp.int32)
  counts = counts.at[rows, cells].add(1, mode="drop")
  most = jnp.argmax(counts, axis=-1).astype(jnp.int32)
  return rearrange(most, "(b h w) -> b h w", h=grid[0], w=grid[1])


def levels(
  x: jax.Array, grid: tuple[int, int], num_levels: int, of: str = "mean"
) -> jax.Array:
  """Return the colour of each cell in levels a channel, int32 [b, h, w].

  Args:
    x: float [b, H, W, c] in 0..1.
    grid: h and w, divisors of H and W.
    num_levels: of each channel; a token is in 0..num_levels**c - 1.
    of: "mean" of the cell, or "max": thin lines stay bright.
  """
  check(x.shape[1:3], grid)
  cells = reduce(x, "b (h i) (w j) c -> b h w c", of, h=grid[0], w=grid[1])
  digits = jnp.floor(jnp.clip(cells, 0.0, 1.0) * num_levels).astype(jnp.int32)
  return _number(jnp.minimum(digits, num_levels - 1), num_levels)


def quarters(mask: jax.Array, grid: tuple[int, int]) -> jax.Array:
  """Return which quarters of each cell hold something, int32 [b, h, w], 0..15.

  Args:
    mask: bool [b, H, W].
    grid: h and w, divisors of H / 2 and W / 2.
  """
  fine = (2 * grid[0], 2 * grid[1])
  check(mask.shape[1:], fine)
  held = reduce(mask, "b (h i) (w j) -> b h w", jnp.any, h=fine[0], w=fine[1])
  digits = rearrange(held, "b (h y) (w x) -> b h w (y x)", y=2, x=2)
  return _number(digits.astype(jnp.int32), 2)


def colours(tokens: jax.Array, num_levels: int, channels: int) -> jax.Array:
  """Return the colours float32 [b, h, w, c] in 0..1 of tokens of `levels`."""
  digits = _digits(tokens, num_levels, channels)
  return digits.astype(jnp.float32) / max(num_levels - 1, 1)


def held(tokens: jax.Array) -> jax.Array:
  """Return the mask bool [b, 2h, 2w] of tokens of `quarters`."""
  digits = _digits(tokens, 2, 4) > 0
  return rearrange(digits, "b h w (y x) -> b (h y) (w x)", y=2, x=2)


def check(size: tuple[int, int], grid: tuple[int, int]) -> None:
  """Raise ValueError unless the grid divides the size."""
  if any(cells < 1 or side % cells for side, cells in zip(size, grid)):
    raise ValueError(
      f"a condition's grid {tuple(grid)} must divide its {tuple(size)} pixels: "
      "change condition.grid"
    )


def _number(digits, base):
  """Read digits [..., c] as one number."""
  weights = base ** jnp.arange(digits.shape[-1] - 1, -1, -1)
  return jnp.sum(digits * weights, axis=-1, dtype=jnp.int32)


def _digits(number, base, count):
  return number[..., None] // base ** jnp.arange(count - 1, -1, -1) % base
