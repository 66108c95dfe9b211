"""Tokenizers without a network: a code is a pixel (f = 1).

`Palette` is the baseline of Esser et al. 2021 (fig. 7): the nearest of a few
hundred colours, found by k-means. `Pixels` takes the shades of grey as they
are. Shapes: b batch, h w rows and columns, c channels, v codes, n pixels.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import repeat

from vqgan import quantizer, tokenizer

_ITERATIONS = 20
_SHADES = 256


@dataclasses.dataclass(frozen=True)
class Palette:
  """The nearest colour of a palette; a `tokenizer.Tokenizer`.

  Its parameters are {"palette": float32 [v, 3], colours in 0..255}.

  Attributes:
    num_codes: v.
    grid: h and w.
  """

  num_codes: int
  grid: tuple[int, int]

  @property
  def factor(self) -> int:
    """1."""
    return 1

  @property
  def width(self) -> int:
    """3."""
    return 3

  @property
  def input(self) -> str:
    """The name of the batch's array that is encoded."""
    return "image"

  def spec(self, batch_size: int) -> jax.ShapeDtypeStruct:
    """Describe that array."""
    return jax.ShapeDtypeStruct((batch_size, *self.grid, 3), jnp.uint8)

  def encode(self, params: Any, rows: jax.Array) -> jax.Array:
    """Return the codes int32 [b, h, w] of rows uint8 [b, h, w, 3]."""
    return quantizer.nearest(rows, params["palette"])

  def decode(self, params: Any, codes: jax.Array) -> jax.Array:
    """Return the pictures uint8 [b, h, w, 3] of codes [b, h, w]."""
    colours = jnp.round(params["palette"]).astype(jnp.uint8)
    return jnp.take(colours, codes, axis=0)

  def embed(self, params: Any, codes: jax.Array) -> jax.Array:
    """Return the colours float32 [b, h, w, 3] in [-1, 1]."""
    return jnp.take(params["palette"] / 127.5 - 1.0, codes, axis=0)

  def fingerprint(self, params: Any) -> str:
    """Return 16 hexadecimal digits of the palette."""
    return tokenizer.fingerprint({"palette": self.num_codes}, params)


@dataclasses.dataclass(frozen=True)
class Pixels:
  """The shade of grey is the code; a `tokenizer.Tokenizer` without parameters.

  Attributes:
    grid: h and w.
  """

  grid: tuple[int, int]

  @property
  def num_codes(self) -> int:
    """256."""
    return _SHADES

  @property
  def factor(self) -> int:
    """1."""
    return 1

  @property
  def width(self) -> int:
    """1."""
    return 1

  @property
  def input(self) -> str:
    """The name of the batch's array that is encoded."""
    return "image"

  def spec(self, batch_size: int) -> jax.ShapeDtypeStruct:
    """Describe that array."""
    return jax.ShapeDtypeStruct((batch_size, *self.grid, 1), jnp.uint8)

  def encode(self, params: Any, rows: jax.Array) -> jax.Array:
    """Return the codes int32 [b, h, w] of rows uint8 [b, h, w, 1]."""
    del params
    return rows[..., 0].astype(jnp.int32)

  def decode(self, params: Any, codes: jax.Array) -> jax.Array:
    """Return the pictures uint8 [b, h, w, 3] of codes [b, h, w]."""
    del params
    return repeat(codes.astype(jnp.uint8), "b h w -> b h w c", c=3)

  def embed(self, params: Any, codes: jax.Array) -> jax.Array:
    """Return the shades float32 [b, h, w, 1] in [-1, 1]."""
    del params
    return codes.astype(jnp.float32)[..., None] / 127.5 - 1.0

  def fingerprint(self, params: Any) -> str:
    """Return 16 hexadecimal digits."""
    return tokenizer.fingerprint({"pixels": _SHADES}, params)


def fit(pixels: np.ndarray, num_codes: int, key: jax.Array) -> dict[str, Any]:
  """Find a palette by k-means (Lloyd), begun on pixels drawn at random.

  A colour that loses all of its pixels moves to one drawn anew.

  Args:
    pixels: uint8 [n, 3].
    num_codes: v.
    key: of the draws.

  Returns:
    The parameters of a `Palette`, the darkest colour first.

  Raises:
    ValueError: there are fewer pixels than colours.
  """
  if len(pixels) < num_codes:
    raise ValueError(
      f"{len(pixels)} pixels are too few for {num_codes} colours: give more "
      "images, or ask for fewer colours"
    )
  colours = _fit(jnp.asarray(pixels, jnp.float32), num_codes, key)
  colours = np.asarray(colours)
  order = np.argsort(colours @ np.float32([0.299, 0.587, 0.114]))
  return {"palette": colours[order]}


@jax.jit
def _assign(pixels, colours):
  """Return the nearest colour of each pixel, a piece at a time."""
  nearest = lambda pixel: quantizer.nearest(pixel, colours)
  return jax.lax.map(nearest, pixels, batch_size=2**14)


def _fit(pixels, num_codes, key):
  first, *others = jax.random.split(key, _ITERATIONS + 1)
  choice = jax.random.choice(first, len(pixels), (num_codes,), replace=False)
  colours = pixels[choice]
  for draw in others:
    codes = _assign(pixels, colours)
    counts = jnp.zeros(num_codes).at[codes].add(1.0)[:, None]
    sums = jnp.zeros((num_codes, 3)).at[codes].add(pixels)
    fresh = pixels[jax.random.randint(draw, (num_codes,), 0, len(pixels))]
    colours = jnp.where(counts > 0, sums / jnp.maximum(counts, 1), fresh)
  return colours
