"""Canny's edges on the device (Canny 1986), as the condition of a prior.

Shapes: b batch, h w rows and columns in pixels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

_SIGMA = 1.0
_RADIUS = 2
_LUMA = (0.299, 0.587, 0.114)


def canny(image: jax.Array, low: float = 0.05, high: float = 0.1) -> jax.Array:
  """Return where edges are, bool [b, h, w].

  Args:
    image: uint8 [b, h, w, 3].
    low: gradient (shades of 0..1 a pixel) from which a pixel may continue an
      edge.
    high: gradient from which it starts one.
  """
  grey = image.astype(jnp.float32) @ jnp.asarray(_LUMA) / 255.0
  grey = _blur(grey)
  dx = _shifted(_smooth(grey, 1), 2, 1) - _shifted(_smooth(grey, 1), 2, -1)
  dy = _shifted(_smooth(grey, 2), 1, 1) - _shifted(_smooth(grey, 2), 1, -1)
  strength = jnp.sqrt(dx**2 + dy**2)
  thin = _is_ridge(strength, dx, dy)
  weak, strong = thin & (strength > low), thin & (strength > high)

  def grow(carry):
    edges, _ = carry
    grown = weak & _dilate(edges)
    return grown, jnp.any(grown != edges)

  return jax.lax.while_loop(
    lambda carry: carry[1], grow, (strong, jnp.bool_(True))
  )[0]


def _is_ridge(strength, dx, dy):
  """Keep what is largest across the edge, of eight directions."""
  # Which of four axes the gradient lies on: along x, two diagonals, along y.
  angle = jnp.arctan2(dy, dx)
  axis = jnp.round(angle / (np.pi / 4)).astype(jnp.int32) % 4  # [b, h, w]
  around = ((0, 1), (1, 1), (1, 0), (1, -1))
  both = jnp.stack(
    [
      (strength >= _moved(strength, y, x))
      & (strength > _moved(strength, -y, -x))
      for y, x in around
    ],
    axis=-1,
  )
  return jnp.take_along_axis(both, axis[..., None], axis=-1)[..., 0]


def _blur(x):
  offsets = np.arange(-_RADIUS, _RADIUS + 1)
  weights = np.exp(-(offsets**2) / (2 * _SIGMA**2))
  weights = weights / weights.sum()
  for dimension in (1, 2):
    parts = [
      w * _shifted(x, dimension, int(i)) for i, w in zip(offsets, weights)
    ]
    x = sum(parts)
  return x


def _smooth(x, dimension):
  """The (1, 2, 1) / 8 of Sobel's operator: a step of 1 has slope 1/2."""
  sides = _shifted(x, dimension, 1) + _shifted(x, dimension, -1)
  return (sides + 2 * x) / 8.0


def _dilate(mask):
  moves = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
  return functools.reduce(
    jnp.logical_or, [_moved(mask, y, x) for y, x in moves]
  )


def _moved(x, rows, columns):
  return _shifted(_shifted(x, 1, rows), 2, columns)


def _shifted(x, dimension, by):
  """Return x[i + by], the border repeated."""
  size = x.shape[dimension]
  index = np.clip(np.arange(size) + by, 0, size - 1)
  return jnp.take(x, index, axis=dimension)
