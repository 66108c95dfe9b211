"""What the tiny runs learn: pictures and grids of codes, drawn by NumPy.

Shapes: b batch, h w rows and columns, n how many are drawn.
"""

import functools

import numpy as np

NUM_CLASSES = 3
NUM_CODES = 7
GRID = (4, 4)


@functools.cache
def pictures(side):
  """Draw 48 pictures: the label decides the colour, a stripe the rest.

  Returns:
    (uint8 [n, h, w, 3], labels int [n]).
  """
  generator = np.random.default_rng(0)
  count = 48
  labels = np.arange(count) % NUM_CLASSES
  colors = np.array([[210, 60, 40], [40, 190, 70], [50, 80, 220]])
  y, x = np.mgrid[:side, :side] / side
  angle, phase, light = generator.uniform(0, 1, (3, count, 1, 1))
  across = np.cos(np.pi * angle) * x + np.sin(np.pi * angle) * y
  stripe = 60 * np.sin(2 * np.pi * (2 * across + phase)) + 60 * (light - 0.5)
  images = colors[labels][:, None, None] + stripe[..., None]
  return np.clip(np.round(images), 0, 255).astype(np.uint8), labels


@functools.cache
def grids():
  """Draw 192 grids of codes.

  A code is that of its label and place, plus 2 on one side of a stripe, plus 1
  where the map is 1.

  Returns:
    {"codes" uint16 [n, h, w], "segmentation" (the map) uint8 [n, h, w],
    "label" int32 [n], "example_id" int32 [n]}.
  """
  generator = np.random.default_rng(0)
  count = 192
  labels = np.arange(count) % NUM_CLASSES
  of_label = generator.integers(0, NUM_CODES, (NUM_CLASSES, *GRID))
  y, x = np.mgrid[: GRID[0], : GRID[1]]
  angle, phase = generator.uniform(0, 2 * np.pi, (2, count, 1, 1))
  stripe = np.sin(np.cos(angle) * x + np.sin(angle) * y + phase) > 0
  marked = x < generator.integers(0, GRID[1] + 1, (count, 1, 1))
  codes = (of_label[labels] + 2 * stripe + marked) % NUM_CODES
  return {
    "codes": codes.astype(np.uint16),
    "segmentation": marked.astype(np.uint8),
    "label": labels.astype(np.int32),
    "example_id": np.arange(count, dtype=np.int32),
  }


def batches(rows, size):
  """Yield batches of rows {name: [n, ...]} drawn with repetition, for ever."""
  generator = np.random.default_rng(1)
  count = len(rows["example_id"])
  while True:
    chosen = generator.integers(0, count, size)
    yield {name: array[chosen] for name, array in rows.items()}
