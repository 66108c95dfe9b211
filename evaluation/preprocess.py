"""Resizes and normalises images for Inception: three incompatible habits.

* `adm`: bilinear on TensorFlow 1's grid (no half pixel, no antialias) and
  (x - 128) / 128, as TTUR, ADM and torch-fidelity do;
* `pytorch_fid`: bilinear with half pixels, no antialias, 2 x / 255 - 1;
* `clean`: antialiased bicubic, clipped and not rounded, (x - 128) / 128
  (Parmar et al. 2022).

Features differ by up to 4% between them, so every result names its mode. A
resize is one matrix for each axis, out = Wy image Wx^T. Letters: `y x` rows
and columns of the resized image.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from evaluation import inception

MODES = ("adm", "pytorch_fid", "clean")
DEFAULT = "adm"


def prepare(images: jax.Array, mode: str = DEFAULT) -> jax.Array:
  """Returns Inception's input for uint8 images.

  Args:
    images: [b, h, w, 3] uint8, any size.
    mode: One of `MODES`.

  Returns:
    Pixels [b, 299, 299, 3], float32, about [-1, 1].
  """
  x = resize(images, mode)
  if mode == "pytorch_fid":
    return 2.0 * x / 255.0 - 1.0
  return (x - 128.0) / 128.0


def resize(images: jax.Array, mode: str = DEFAULT) -> jax.Array:
  """Resizes uint8 images to 299 x 299.

  Args:
    images: [b, h, w, 3] uint8.
    mode: One of `MODES`.

  Returns:
    [b, 299, 299, 3] float32 in 0..255, not rounded.

  Raises:
    ValueError: The mode is unknown or the images are not uint8 RGB.
  """
  check(mode)
  if images.dtype != jnp.uint8 or images.ndim != 4 or images.shape[-1] != 3:
    raise ValueError(
      f"images are {images.dtype} {images.shape}, not uint8 [b, h, w, 3];"
      " `image_sets.to_uint8` rounds floats"
    )
  rows = jnp.asarray(matrix(images.shape[1], mode))  # [y, h]
  columns = jnp.asarray(matrix(images.shape[2], mode))  # [x, w]
  x = images.astype(jnp.float32)
  with jax.default_matmul_precision("highest"):
    x = jnp.einsum("xw,bhwc->bhxc", columns, x)
    x = jnp.einsum("yh,bhxc->byxc", rows, x)
  return jnp.clip(x, 0.0, 255.0)


def check(mode: str) -> str:
  """Returns `mode`, or raises ValueError with the choices."""
  if mode not in MODES:
    raise ValueError(f"preprocess {mode!r} is not one of {', '.join(MODES)}")
  return mode


@functools.cache
def matrix(size: int, mode: str) -> np.ndarray:
  """Returns the weights of one axis, [299, size], float32, rows sum to 1."""
  rows = {"adm": _adm, "pytorch_fid": _half_pixel, "clean": _bicubic}
  return rows[check(mode)](size, inception.SIDE)


def _adm(size: int, out: int) -> np.ndarray:
  # In float32 throughout, as TensorFlow 1 computed its grid.
  source = np.arange(out, dtype=np.float32) * np.float32(size / out)
  return _bilinear(source, size)


def _half_pixel(size: int, out: int) -> np.ndarray:
  # In float32 throughout, as PyTorch computes its grid.
  half = np.float32(0.5)
  source = (np.arange(out, dtype=np.float32) + half) * np.float32(size / out)
  return _bilinear(np.maximum(source - half, np.float32(0)), size)


def _bilinear(source: np.ndarray, size: int) -> np.ndarray:
  """Puts two neighbours' weights into each row; the border repeats."""
  lower = np.floor(source).astype(int)
  upper = np.minimum(lower + 1, size - 1)
  share = source - lower.astype(np.float32)
  weights = np.zeros((len(source), size), np.float32)
  rows = np.arange(len(source))
  np.add.at(weights, (rows, lower), 1 - share)
  np.add.at(weights, (rows, upper), share)
  return weights


def _bicubic(size: int, out: int) -> np.ndarray:
  """Pillow's rule: a Keys kernel (a = -0.5), widened when shrinking."""
  ratio = size / out
  widen = max(ratio, 1.0)
  support = 2.0 * widen
  weights = np.zeros((out, size))
  for i in range(out):
    center = (i + 0.5) * ratio
    first = max(int(center - support + 0.5), 0)
    last = min(int(center + support + 0.5), size)
    taps = np.arange(first, last)
    row = _keys((taps - center + 0.5) / widen)
    weights[i, first:last] = row / row.sum()
  return weights.astype(np.float32)


def _keys(x: np.ndarray, a: float = -0.5) -> np.ndarray:
  """Evaluates the cubic convolution kernel (Keys 1981)."""
  x = np.abs(x)
  near = ((a + 2) * x - (a + 3)) * x * x + 1
  far = (((x - 5) * x + 8) * x - 4) * a
  return np.where(x < 1, near, np.where(x < 2, far, 0.0))
