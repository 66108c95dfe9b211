"""Distances of image pairs, PSNR, SSIM and LPIPS, and the energy of edges.

One value an image. All take uint8 images, so that a model's floats are
rounded first, as a picture file would. Letters: `b` pairs, `y x` rows and
columns of positions.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weights import lpips as perceptual

SSIM_SIDE = 11  # of its window: smaller images have none
LAPLACIAN_SIDE = 3  # likewise
_WINDOW, _SIGMA = SSIM_SIDE, 1.5
_K1, _K2 = 0.01, 0.03


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Returns 10 log10(255^2 / mean squared error), decibels, [b] float64.

  Args:
    a: [b, h, w, c] uint8.
    b: The same shape.

  Equal images give infinity.
  """
  check_pair(a, b)
  difference = a.astype(np.float64) - b
  error = (difference**2).mean((1, 2, 3))
  with np.errstate(divide="ignore"):
    return 10 * np.log10(255.0**2 / error)


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Returns the structural similarity (Wang et al. 2004), [b] float32.

  An 11 x 11 Gaussian window of deviation 1.5 without padding, K1 = 0.01,
  K2 = 0.03, mean over positions and channels: as `tf.image.ssim`.

  Args:
    a: [b, h, w, c] uint8, sides of at least 11.
    b: The same shape.
  """
  check_pair(a, b)
  if min(a.shape[1:3]) < _WINDOW:
    raise ValueError(
      f"images of {a.shape[1]} x {a.shape[2]} are smaller than SSIM's window"
      f" of {_WINDOW}"
    )
  return np.asarray(_ssim(a, b))


def lpips(
  params: Mapping[str, Any], a: np.ndarray, b: np.ndarray, net: str = "alex"
) -> np.ndarray:
  """Returns the perceptual distance of `weights.lpips`, [b] float32.

  Args:
    params: Of `weights.lpips.load(net)`.
    a: [b, h, w, 3] uint8.
    b: The same shape.
    net: "alex" is the one that is reported.
  """
  check_pair(a, b)
  return np.asarray(_lpips(params, a, b, net))


def laplacian_energy(images: np.ndarray) -> np.ndarray:
  """Returns the mean squared Laplacian of the luma (BT.601), [b] float64.

  Below that of real images where edges are soft.

  Args:
    images: [b, h, w, 3] uint8, sides of at least 3.
  """
  check_pair(images, images)
  if min(images.shape[1:3]) < LAPLACIAN_SIDE:
    raise ValueError(
      f"images of {images.shape[1]} x {images.shape[2]} are smaller than the"
      f" Laplacian's {LAPLACIAN_SIDE} x {LAPLACIAN_SIDE}"
    )
  luma = images.astype(np.float64) @ [0.299, 0.587, 0.114]
  across = luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
  down = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1]
  return ((across + down - 4 * luma[:, 1:-1, 1:-1]) ** 2).mean((1, 2))


def check_pair(a: np.ndarray, b: np.ndarray) -> None:
  """Raises ValueError unless both are uint8 [b, h, w, c] of one shape."""
  for images in (a, b):
    if images.dtype != np.uint8 or images.ndim != 4:
      raise ValueError(
        f"images are {images.dtype} {images.shape}, not uint8 [b, h, w, c]"
      )
  if a.shape != b.shape:
    raise ValueError(
      f"images of shapes {a.shape} and {b.shape} are not pairs; give both sets"
      " the same number, size and crop"
    )


@partial(jax.jit, static_argnums=3)
def _lpips(params, a, b, net):
  a, b = (x.astype(jnp.float32) / 127.5 - 1 for x in (a, b))
  return perceptual.distance(params, a, b, net=net)


@jax.jit
def _ssim(a: jax.Array, b: jax.Array) -> jax.Array:
  # Centring first: variances do not change and keep more digits.
  x, y = (v.astype(jnp.float32) / 255 - 0.5 for v in (a, b))
  mean_x, mean_y = _blur(x), _blur(y)
  covariance = _blur(x * y) - mean_x * mean_y
  variances = _blur(x * x + y * y) - mean_x**2 - mean_y**2
  mean_x, mean_y = mean_x + 0.5, mean_y + 0.5
  c1, c2 = _K1**2, _K2**2
  luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
  structure = (2 * covariance + c2) / (variances + c2)
  return (luminance * structure).mean((1, 2, 3))  # [b]


def _blur(x: jax.Array) -> jax.Array:
  """Filters with the window along both axes, without padding."""
  rows, columns = _band(x.shape[1]), _band(x.shape[2])
  with jax.default_matmul_precision("highest"):
    x = jnp.einsum("xw,bhwc->bhxc", columns, x)
    return jnp.einsum("yh,bhxc->byxc", rows, x)


def _band(size: int) -> np.ndarray:
  """Returns the filter of one axis as a matrix [size - 10, size]."""
  offsets = np.arange(_WINDOW) - _WINDOW // 2
  window = np.exp(-(offsets**2) / (2 * _SIGMA**2))
  band = np.zeros((size - _WINDOW + 1, size), np.float32)
  for i in range(len(band)):
    band[i, i : i + _WINDOW] = window / window.sum()
  return band
