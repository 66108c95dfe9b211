"""Masks of pixels: which codes they keep, and known pixels put back.

Shapes: b batch, h w rows and columns of pixels, f pixels per code on a side.
"""

import jax.numpy as jnp
import numpy as np
from einops import reduce


def kept_codes(known, factor):
  """Say which codes are kept: those all of whose f x f pixels are known.

  Args:
    known: bool [h, w].
    factor: f.

  Returns:
    bool [h / f, w / f].

  Raises:
    ValueError: h or w is no multiple of f.
  """
  if any(side % factor for side in known.shape):
    raise ValueError(
      f"a mask of {known.shape[0]}x{known.shape[1]} pixels must be a multiple "
      f"of the {factor} pixels of a code"
    )
  return reduce(known, "(h i) (w j) -> h w", "all", i=factor, j=factor)


def rectangle(size, top, left, height, width):
  """Return the mask that knows all but a rectangle: bool [h, w].

  Raises:
    ValueError: the rectangle is empty or reaches beyond the image.
  """
  inside = top >= 0 and left >= 0 and height > 0 and width > 0
  if not inside or top + height > size[0] or left + width > size[1]:
    raise ValueError(
      f"the rectangle {top},{left},{height},{width} must lie within the image "
      f"of {size[0]}x{size[1]} pixels"
    )
  known = np.ones(size, bool)
  known[top : top + height, left : left + width] = False
  return known


def composite(made, image, known):
  """Put the known pixels back: uint8 [b, h, w, 3].

  Args:
    made: uint8 [b, h, w, 3].
    image: uint8 [h, w, 3].
    known: bool [h, w].
  """
  return jnp.where(known[..., None], image, made)
