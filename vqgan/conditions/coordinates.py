"""Image coordinates as tokens: where in a picture each code lies.

A pixel's coordinate is its index in scan order over the number of pixels; a
code has the mean of its pixels (Esser et al. 2021, sec. 4.3, for windows).

Shapes: b batch, h w rows and columns of the code grid.
"""

import jax
import jax.numpy as jnp


def tokens(
  crop: jax.Array, grid: tuple[int, int], factor: int, levels: int
) -> jax.Array:
  """Return the coordinates int32 [b, h, w] of the codes of a crop, 0..levels.

  Args:
    crop: float [b, 4], top, left, bottom and right of the crop in 0..1 of the
      whole picture.
    grid: h and w of the crop.
    factor: pixels per code along one axis.
    levels: what 1 would become.
  """
  top, left, bottom, right = (
    crop[:, i, None, None].astype(jnp.float32) for i in range(4)
  )
  # In pixels of the picture, as if it had been resized before the crop.
  height, width = (
    cells * factor / (end - start)
    for cells, start, end in zip(grid, (top, left), (bottom, right))
  )
  middle = (factor - 1) / 2
  y = top * height + jnp.arange(grid[0])[:, None] * factor + middle
  x = left * width + jnp.arange(grid[1]) * factor + middle
  share = (y * width + x) / (height * width)  # [b, h, w]
  return jnp.round(jnp.clip(share, 0.0, 1.0) * levels).astype(jnp.int32)
