"""How samples come about step by step: an animation, or a strip."""

from pathlib import Path

import numpy as np
from PIL import Image

from launch import pictures

KINDS = ("gif", "webp", "strip")
_MOST_FRAMES = 64
_MOST_PIXELS = 2048  # of a side; what is larger is made smaller
_LONG_MS = 1500  # of the last frame
_SHORT_MS = 120


def chosen(num: int) -> np.ndarray:
  """Returns which of so many frames are shown: all, or evenly spaced ones."""
  return np.unique(np.linspace(0, num - 1, min(num, _MOST_FRAMES)).astype(int))


def write(path: Path, frames: np.ndarray, kind: str) -> Path:
  """Writes the frames of several samples side by side.

  Args:
    path: without an ending.
    frames: uint8 [b, t, h, w, 3].
    kind: of KINDS; a strip is a PNG with a row for each sample.

  Returns:
    The file.
  """
  num = frames.shape[1]
  if kind == "strip":
    few = np.unique(np.linspace(0, num - 1, min(num, 12)).astype(int))
    rows = frames[:, few]
    grid = pictures.grid(rows.reshape(-1, *rows.shape[2:]), columns=len(few))
    path = path.with_name(f"{path.name}.png")
    _picture(grid).save(path)
    return path
  columns = int(np.ceil(len(frames) ** 0.5))
  images = [
    _picture(pictures.grid(frames[:, t], columns=columns)) for t in range(num)
  ]
  path = path.with_name(f"{path.name}.{kind}")
  images[0].save(
    path,
    save_all=True,
    append_images=images[1:],
    duration=[_SHORT_MS] * (num - 1) + [_LONG_MS],
    loop=0,
  )
  return path


def _picture(pixels):
  picture = Image.fromarray(pixels)
  picture.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
  return picture
