"""Where things lie in an hourglass: grids, rotary angles, who attends to whom.

Everything is NumPy, computed while a model is traced. The `reference` forms
reproduce what the released code does.

Shapes: h w rows and columns of a level's grid, n heads, k width of a head, f
places of a fine grid, c of the coarse one below it.
"""

import numpy as np

from layers import positions

# Coordinates of so many places along a side, and the lowest frequency there.
PLACES = {
  "middles": (positions.middles, 0.25),
  "corners": (lambda side: np.linspace(-1, 1, side), 1.0),
}
# The released code gives all levels but the innermost the frequencies of a
# grid of this side.
_REFERENCE_SIDE = 16


def grids(grid, factors):
  """Return the grid of every level, the given one first.

  Args:
    grid: (rows, cols) of the codes.
    factors: (rows, cols) of a patch that becomes one place, one a level.

  Raises:
    ValueError: a grid is not divisible.
  """
  found = [tuple(grid)]
  for factor in factors:
    fine = found[-1]
    if any(f < 1 or side % f for side, f in zip(fine, factor)):
      raise ValueError(
        f"grid {fine[0]}x{fine[1]} must be divisible by the factor "
        f"{factor[0]}x{factor[1]}: change model.factors or the size of images"
      )
    found.append((fine[0] // factor[0], fine[1] // factor[1]))
  return found


def angles(grid, width, places="middles"):
  """Return the rotary angles of a level, float32 [h w, k/2], for every head.

  Args:
    grid: (h, w).
    width: k.
    places: one of PLACES. With "corners", -1 to 1 both included and a lowest
      frequency of 1 (McKinney & Willcocks 2022), the first and the last place
      of a side are one where all frequencies are whole.
  """
  axes, lowest = _axes(grid, places)
  return _flat(positions.grid_angles(*axes, width, lowest=lowest))


def reference_angles(grid, width, heads, innermost):
  """Return angles that turn the first head alone, float32 [h w, n, k/2]."""
  tops = grid if innermost else (_REFERENCE_SIDE, _REFERENCE_SIDE)
  axes, lowest = _axes(grid, "corners")
  first = _flat(positions.grid_angles(*axes, width, tops, lowest))
  turned = np.zeros((len(first), heads, width // 2), np.float32)
  turned[:, 0] = first
  return turned


def patch_angles(grid, factor, width, places="middles"):
  """Return the angles of the patches of a fine grid, float32 [c, k/2].

  A patch lies at the mean of its places, and turns by their frequencies.
  """
  axes, lowest = _axes(grid, places)
  means = [x.reshape(-1, f).mean(axis=1) for x, f in zip(axes, factor)]
  return _flat(positions.grid_angles(*means, width, grid, lowest))


def inside(grid, factor):
  """Say which fine places a patch holds: bool [c, f]."""
  patch = _patch(grid, factor)
  coarse = np.indices([s // f for s, f in zip(grid, factor)]).reshape(2, -1)
  return (coarse[:, :, None] == patch[:, None]).all(axis=0)


def around(grid, factor):
  """Say which patches touch a fine place's own, corners too: bool [f, c]."""
  patch = _patch(grid, factor)
  coarse = np.indices([s // f for s, f in zip(grid, factor)]).reshape(2, -1)
  distance = np.abs(patch[:, :, None] - coarse[:, None])
  return (distance <= 1).all(axis=0)


def strips(grid, factor):
  """Say which places the released code pools: runs in raster order, [c, f]."""
  size = factor[0] * factor[1]
  num = grid[0] * grid[1]
  return np.arange(num // size)[:, None] == np.arange(num) // size


def _axes(grid, places):
  """Return the coordinates of rows and columns, and the lowest frequency."""
  coordinates, lowest = PLACES[places]
  return [coordinates(side) for side in grid], lowest


def _patch(grid, factor):
  """Return the patch (row, column) of every fine place, int [2, f]."""
  places = np.indices(grid).reshape(2, -1)
  return places // np.reshape(factor, (2, 1))


def _flat(grid):
  return grid.reshape(-1, grid.shape[-1])
