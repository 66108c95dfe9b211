"""Pictures of samples: one grid of many images."""

import math

import numpy as np

_GAP = 2
_WHITE = 255


def grid(
  images: np.ndarray, sizes: np.ndarray | None = None, columns: int = 0
) -> np.ndarray:
  """Lays images out in rows, with white gaps.

  Args:
    images: uint8 [n, h, w, 3].
    sizes: int [n, 2], rows and columns of each that count; the rest is white.
    columns: 0 makes the grid nearly square.
  Returns:
    uint8 [rows, columns, 3] in pixels.
  """
  if images.ndim != 4 or not len(images):
    raise ValueError(f"images {images.shape} must be [n, h, w, 3] with n > 0")
  n, h, w, c = images.shape
  if sizes is not None:
    h, w = (int(side) for side in sizes.max(axis=0))
  columns = columns or math.ceil(math.sqrt(n))
  rows = math.ceil(n / columns)
  canvas = np.full(
    (rows * (h + _GAP) - _GAP, columns * (w + _GAP) - _GAP, c), _WHITE, np.uint8
  )
  for i, image in enumerate(images):
    high, wide = (h, w) if sizes is None else sizes[i]
    y, x = (i // columns) * (h + _GAP), (i % columns) * (w + _GAP)
    canvas[y : y + high, x : x + wide] = image[:high, :wide]
  return canvas
