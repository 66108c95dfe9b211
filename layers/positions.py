"""Positions: learned tables for sequences and for two-dimensional grids."""

import flax.linen as nn
import jax.numpy as jnp

_INIT = nn.initializers.normal(0.02)


class Table(nn.Module):
  """One learned vector per place of a sequence."""

  length: int
  width: int

  @nn.compact
  def __call__(self):
    """Return the table [l, d], float32."""
    return self.param("table", _INIT, (self.length, self.width))


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
