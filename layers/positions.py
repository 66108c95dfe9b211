"""Positions: learned tables for sequences and grids; rotations of grids.

Shapes: b batch, l slots, h w rows and columns, n heads, k width of a head.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

_SCALE = 0.02
_INIT = nn.initializers.normal(_SCALE)


class Table(nn.Module):
  """One learned vector per place of a sequence."""

  length: int
  width: int
  scale: float = _SCALE

  @nn.compact
  def __call__(self):
    """Return the table [l, d], float32."""
    init = nn.initializers.normal(self.scale)
    return self.param("table", init, (self.length, self.width))


class Grid(nn.Module):
  """One learned vector per row plus one per column of a grid."""

  rows: int
  cols: int
  width: int

  @nn.compact
  def __call__(self):
    """Return [h, w, d], float32: row vector plus column vector."""
    rows = self.param("rows", _INIT, (self.rows, self.width))
    cols = self.param("cols", _INIT, (self.cols, self.width))
    return jnp.asarray(rows)[:, None] + jnp.asarray(cols)[None]


def middles(side):
  """Return the middles of so many equal cells of -1..1, NumPy [side]."""
  return (2 * np.arange(side) + 1) / side - 1


def grid_angles(rows, cols, width, tops=None, lowest=0.25):
  """Return rotary angles of the places of a grid, NumPy float32 [h, w, k/2].

  "Pixel" frequencies: k/4 of them an axis, pi * linspace(lowest, side/2), times
  a coordinate of -1 to 1; the first half of the angles turns with the rows, the
  second with the columns (Su et al. 2021, sec. 3.2; axial as in McKinney &
  Willcocks 2022, whose lowest is 1). From edge to edge the lowest of 0.25 makes
  a quarter of a turn, so that all ways across the grid, back and forth, have
  rotations of their own. With 1 it makes a whole turn, and where all
  frequencies are whole one edge is the other to attention.

  Args:
    rows: float [h], the rows' coordinates in -1..1.
    cols: float [w].
    width: k, a multiple of 4.
    tops: the sides (rows, cols) that the frequencies end at; by default those
      of the grid.
    lowest: frequency, in half turns a unit.

  Raises:
    ValueError: the width is no multiple of 4.
  """
  if width % 4:
    raise ValueError(f"rotary width {width} must be a multiple of 4")
  axes = rows, cols
  tops = [len(axis) for axis in axes] if tops is None else tops
  h, w = (
    axis[:, None] * np.pi * np.linspace(lowest, max(top / 2, 1), width // 4)
    for axis, top in zip(axes, tops)
  )  # [side, k/4]
  shape = (len(h), len(w), width // 4)
  both = np.broadcast_to(h[:, None], shape), np.broadcast_to(w[None], shape)
  return np.concatenate(both, axis=-1).astype(np.float32)


def rotate(x, angles):
  """Turn the pairs (2i, 2i + 1) of each head by its place's angles.

  Args:
    x: queries or keys [b, l, n, k].
    angles: float32 [l, k/2], or [l, n, k/2] to turn heads differently.

  Returns:
    [b, l, n, k] in the dtype of x.
  """
  angles = angles[:, None] if angles.ndim == 2 else angles  # [l, n, k/2]
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  even, odd = x[..., ::2], x[..., 1::2]
  turned = jnp.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1)
  return turned.reshape(x.shape).astype(x.dtype)
