"""Orders in which a prior reads a grid of codes (Esser et al. 2021, Fig. 30).

An order is a permutation: `codes.reshape(b, -1)[:, order(name, h, w)]` is the
model's sequence, and indexing that by the inverse gives the grid back.
"""

import functools

import numpy as np

NAMES = (
  "row",
  "spiral_in",
  "spiral_out",
  "z_curve",
  "subsample",
  "alternate",
  "random",
)
_SEED = 1  # of the authors' random order


@functools.lru_cache(maxsize=64)
def order(name: str, rows: int, cols: int) -> np.ndarray:
  """Return which place of a grid comes t-th: int64 [rows * cols], read-only.

  Args:
    name: one of `NAMES`. "row" goes by rows; "spiral_in" from the bottom right
      corner up and round to the middle, "spiral_out" back; "z_curve" by
      Morton codes; "subsample" takes every second place of both axes, and
      each of the four parts likewise; "alternate" goes by rows, every second
      one backwards; "random" is one fixed permutation.
    rows: of the grid.
    cols: of the grid.

  Raises:
    ValueError: an unknown name or an empty grid.
  """
  if name not in NAMES:
    raise ValueError(f'order "{name}": choose one of {", ".join(NAMES)}')
  if rows < 1 or cols < 1:
    raise ValueError(f"a grid of {rows} x {cols} has no order")
  grid = np.arange(rows * cols, dtype=np.int64).reshape(rows, cols)
  row, col = np.indices((rows, cols))
  bits = range(max(rows, cols).bit_length())
  digit = lambda bit: 2 * (row >> bit & 1) + (col >> bit & 1)
  if name == "alternate":
    grid[1::2] = grid[1::2, ::-1]
  elif name.startswith("spiral"):
    grid = _spiral_in(grid)[:: 1 if name == "spiral_in" else -1]
  elif name == "z_curve":
    grid = np.argsort(sum(digit(bit) << 2 * bit for bit in bits), axis=None)
  elif name == "subsample":
    # The lowest bits part first: a Morton code read backwards.
    last = len(bits) - 1
    key = sum(digit(bit) << 2 * (last - bit) for bit in bits)
    grid = np.argsort(key, axis=None)
  elif name == "random":
    grid = np.random.RandomState(_SEED).permutation(grid.size)
  found = grid.reshape(-1).astype(np.int64)
  found.flags.writeable = False
  return found


def inverse(permutation: np.ndarray) -> np.ndarray:
  """Return the permutation that undoes one: int64 [l]."""
  undone = np.empty_like(permutation)
  undone[permutation] = np.arange(permutation.size)
  return undone


def _spiral_in(grid):
  """Peel the right column upwards, turn the rest, repeat."""
  taken = []
  while grid.size:
    taken.append(grid[::-1, -1])
    grid = np.rot90(grid[:, :-1], -1)
  return np.concatenate(taken)
