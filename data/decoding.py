"""From any image file's bytes to RGB, or to a map, with Pillow.

Slow, and takes everything. The fast path for ordinary JPEGs is in
`data/images.py` (TensorFlow). This one needs no TensorFlow and serves what
that one refuses.
"""

import io
import warnings

import numpy as np
from PIL import Image

# Larger pictures are refused: a small file can claim any size.
MAX_PIXELS = 256 * 1024 * 1024


class Unreadable(ValueError):
  """The bytes are no image, or only part of one."""


def to_rgb(image: bytes | np.ndarray, drop_alpha: bool = False) -> np.ndarray:
  """Decode an image file, or convert an array, to uint8 [h, w, 3].

  Greyscale is repeated, 16 bits become 8, palettes are looked up, CMYK is
  converted, transparency is laid over black or, with `drop_alpha`, not looked
  at, and of an animation the first frame counts. Raises Unreadable for
  everything else.
  """
  if isinstance(image, np.ndarray):
    return _array_to_rgb(image)
  return _open(image, lambda picture: _picture_to_rgb(picture, drop_alpha))


def to_map(values: bytes | np.ndarray, dtype: type) -> np.ndarray:
  """Decode a file with one number for each pixel to `dtype` [h, w].

  A palette is not looked up; an array is returned as it is. Raises Unreadable
  for what is no image, has several channels, or numbers that do not fit.
  """
  if isinstance(values, np.ndarray):
    return values
  return _open(values, lambda picture: _picture_to_map(picture, dtype))


def _open(data: bytes, convert) -> np.ndarray:
  """Return `convert` of the picture; whatever goes wrong is Unreadable."""
  if not data:
    raise Unreadable("empty file")
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      with Image.open(io.BytesIO(data)) as picture:
        return convert(picture)
  except Unreadable:
    raise
  except Exception as error:  # Pillow's plugins raise nearly anything
    reason = " ".join(str(error).split()) or type(error).__name__
    reason = reason.partition(" <_io.")[0]
    raise Unreadable(reason) from error


def _picture_to_rgb(picture: Image.Image, drop_alpha: bool) -> np.ndarray:
  if picture.width * picture.height > MAX_PIXELS:
    raise Unreadable(f"{picture.width} x {picture.height} pixels are too many")
  picture.seek(0)
  if picture.mode.startswith("I") or picture.mode == "F":
    return _array_to_rgb(_to_8_bits(np.asarray(picture)))
  if picture.has_transparency_data and not drop_alpha:
    picture = picture.convert("RGBA")
    black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
    picture = Image.alpha_composite(black, picture)
  return np.array(picture.convert("RGB"))


def _picture_to_map(picture: Image.Image, dtype: type) -> np.ndarray:
  values = np.asarray(picture)
  if values.ndim != 2 or 0 in values.shape:
    raise Unreadable(f"{picture.mode} instead of one channel")
  if not 0 <= values.min() <= values.max() <= np.iinfo(dtype).max:
    raise Unreadable(f"values beyond {np.dtype(dtype).name}")
  return values.astype(dtype)


def _to_8_bits(values: np.ndarray) -> np.ndarray:
  """Scale a 16-bit or floating-point picture to uint8."""
  if values.dtype.kind == "f":
    values = np.nan_to_num(values)
    scale = 255.0 if values.max(initial=0.0) <= 1.0 else 1.0
    return np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)
  return (np.clip(values, 0, 65535) >> 8).astype(np.uint8)


def _array_to_rgb(image: np.ndarray) -> np.ndarray:
  if image.dtype != np.uint8 or image.ndim not in (2, 3) or 0 in image.shape:
    raise Unreadable(f"{image.dtype} array of shape {image.shape}")
  if image.ndim == 2:
    image = image[..., None]
  if image.shape[-1] not in (1, 3):
    raise Unreadable(f"{image.shape[-1]} channels, not 1 or 3")
  return np.broadcast_to(image, (*image.shape[:2], 3))
