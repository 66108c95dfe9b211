"""What a picture of a scene shows, read from its pixels alone.

Made for judging samples of a model: each function takes uint8 [n, h, w, 3] of
any side. On 2,000 pictures at side 64 the colour was right on all, also after
JPEG compression at quality 50 with 4:2:0, and wrong on 3 at quality 20.
"""

import numpy as np

from data.scenes import scene

# Chroma (Cb, Cr) of the colours as rendered, in the order of scene.COLOURS:
# the median over the objects' pixels of 2,000 pictures.
_CHROMA = np.array(
  [[-21, 59], [-61, 22], [-23, -35], [21, -52], [50, -21], [35, 28]]
)
# Of the ground 99.9% is below 18 (edges), of the objects 95% above 21.
_MIN_CHROMA = 14.0


def foreground(images: np.ndarray) -> np.ndarray:
  """Return where a coloured object is, bool [n, h, w]."""
  return _nearest(images) >= 0


def colour(images: np.ndarray) -> np.ndarray:
  """Return the colour of the main object, index into COLOURS, int64 [n].

  It is the colour that covers most pixels; -1 where there is none.
  """
  counts = _counts(_nearest(images))
  return np.where(counts.any(-1), counts.argmax(-1), -1)


def main_object(images: np.ndarray) -> np.ndarray:
  """Return where the main object's colour is, bool [n, h, w]."""
  nearest = _nearest(images)
  mine = nearest == _counts(nearest).argmax(-1)[:, None, None]
  return mine & (nearest >= 0)


def place(images: np.ndarray) -> np.ndarray:
  """Return the middle of the main object (x, y) in 0..1, float64 [n, 2].

  The centroid of the pixels of its colour; NaN where there is no object.
  """
  mine = main_object(images)
  total = mine.sum((1, 2))
  h, w = mine.shape[1:]
  x = (mine.sum(1) * ((np.arange(w) + 0.5) / w)).sum(-1)
  y = (mine.sum(2) * ((np.arange(h) + 0.5) / h)).sum(-1)
  total = np.where(total, total, np.nan)
  return np.stack([x / total, y / total], -1)  # [n, 2]


def place_histogram(images: np.ndarray, cells: int = 4) -> np.ndarray:
  """Return the share of pictures whose main object is in each cell of a grid.

  float64 [cells, cells], rows downwards, sum 1; pictures without an object
  count in none. Half the sum of absolute differences of two of these is their
  total variation.
  """
  where = place(images)
  where = where[~np.isnan(where).any(-1)]
  x, y = np.clip((where * cells).astype(int), 0, cells - 1).T
  counts = np.bincount(y * cells + x, minlength=cells * cells)
  return counts.reshape(cells, cells) / max(len(where), 1)


def _counts(nearest):
  """Pixels of each colour, int64 [n, colours]."""
  return np.stack(
    [(nearest == i).sum((1, 2)) for i in range(len(scene.COLOURS))], -1
  )


def _nearest(images):
  """Index of each pixel's colour by its hue, -1 on the ground; [n, h, w]."""
  chroma = _chroma(images)
  strength = np.sqrt((chroma**2).sum(-1))
  directions = _CHROMA / np.linalg.norm(_CHROMA, axis=-1, keepdims=True)
  hue = np.einsum("nhwc,vc->nhwv", chroma, directions).argmax(-1)
  return np.where(strength >= _MIN_CHROMA, hue, -1)


def _chroma(images):
  """Cb and Cr of JFIF without their offset, float32 [n, h, w, 2]."""
  if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
    raise ValueError(
      f"images {images.dtype} {images.shape} must be uint8 [n, h, w, 3]"
    )
  weights = np.array(
    [[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
  )
  return images.astype(np.float32) @ weights.T
