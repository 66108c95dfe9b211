"""The codec: an RGB image to a tensor of quantised DCT coefficients and back.

Pure JAX, jittable and batched; this file is the definition, and the host side
(`dctransformer.encode`) gives the same integers. The steps are those of
baseline JPEG (ITU-T T.81, Annexes A and K; JFIF colour), with blocks of 8, 16
or 32 and an orthonormal transform (Nash et al. 2021, sec. 3).

A block has rows `y`, columns `x`; `u`, `v` are vertical and horizontal
frequencies, and `z` is the zigzag index of (u, v).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, reduce, repeat

Array = jax.Array | np.ndarray

# ITU-T T.81, tables K.1 and K.2: rows are vertical frequencies.
LUMA_TABLE = np.array(
  [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
  ]
)
CHROMA_TABLE = np.array(
  [
    [17, 18, 24, 47, 99, 99, 99, 99],
    [18, 21, 26, 66, 99, 99, 99, 99],
    [24, 26, 56, 99, 99, 99, 99, 99],
    [47, 66, 99, 99, 99, 99, 99, 99],
    [99, 99, 99, 99, 99, 99, 99, 99],
    [99, 99, 99, 99, 99, 99, 99, 99],
    [99, 99, 99, 99, 99, 99, 99, 99],
    [99, 99, 99, 99, 99, 99, 99, 99],
  ]
)

# JFIF full-range BT.601 with libjpeg's constants. Rows: Y, Cb, Cr; the offsets
# of 128 and the level shift before the transform leave only Y - 128.
COLOR = np.array(
  [
    [0.299, 0.587, 0.114],
    [-0.168735892, -0.331264108, 0.5],
    [0.5, -0.418687589, -0.081312411],
  ]
)

# A coefficient that lies exactly half-way between two steps is common (a DC is
# an integer over 8 Q), and float32 sums in another order round it the other
# way. Moving the threshold by a hair makes every backend agree on these.
TIE = 2.0**-12

BLOCKS = (8, 16, 32)
ORDERS = ("interleaved", "luma_first")
ENLARGINGS = ("bilinear", "nearest")
UPSAMPLINGS = ("nearest", "bilinear")


@dataclasses.dataclass(frozen=True)
class Codec:
  """Everything that decides how an image becomes a DCT image and a list.

  `rows` and `cols` are the canvas in luma blocks: the largest image that fits.
  Channel ids are Y 0..B^2-1, Cb B^2..2B^2-1, Cr 2B^2..3B^2-1, each in zigzag
  order.

  Attributes:
    block: side B of a block in pixels (8, 16 or 32).
    quality: JPEG quality, 1 to 100, libjpeg's scaling of the tables.
    rows: rows of the canvas in luma blocks, even.
    cols: columns of the canvas in luma blocks, even.
    order: visit order, "interleaved" or "luma_first" (see `sparse`).
    max_value: values are clipped to [-max_value, max_value] in the list.
    table: how the 8 x 8 tables are enlarged for B > 8.
    upsampling: how half-resolution chroma is enlarged when decoding.
  """

  block: int
  quality: int
  rows: int
  cols: int
  order: str = "interleaved"
  max_value: int = 1024
  table: str = "bilinear"
  upsampling: str = "nearest"

  def __post_init__(self):
    _check_choice("block", self.block, BLOCKS)
    _check_choice("order", self.order, ORDERS)
    _check_choice("table", self.table, ENLARGINGS)
    _check_choice("upsampling", self.upsampling, UPSAMPLINGS)
    if not 1 <= self.quality <= 100:
      raise ValueError(f"quality {self.quality} must be between 1 and 100")
    for name in ("rows", "cols"):
      if getattr(self, name) < 2 or getattr(self, name) % 2:
        raise ValueError(
          f"{name} {getattr(self, name)} must be even and at least 2: one"
          " chroma block covers 2 x 2 luma blocks"
        )
    # Lists travel as int16.
    if self.num_positions > 2**15:
      raise ValueError(
        f"rows x cols {self.rows} x {self.cols} must be at most {2**15}"
        " positions: use a larger block or a smaller image"
      )
    if not 1 <= self.max_value < 2**15:
      raise ValueError(
        f"max_value {self.max_value} must be between 1 and {2**15 - 1}"
      )

  @property
  def num_channels(self) -> int:
    """Channels of the DCT image, 3 B^2."""
    return 3 * self.block**2

  @property
  def num_positions(self) -> int:
    """Positions of the canvas."""
    return self.rows * self.cols

  @property
  def num_values(self) -> int:
    """Value classes: -V..V without 0."""
    return 2 * self.max_value

  @property
  def stop(self) -> int:
    """Channel class that ends a list."""
    return self.num_channels

  @property
  def start(self) -> int:
    """Channel id that the decoder reads before the first element."""
    return self.num_channels + 1

  @property
  def max_total(self) -> int:
    """Elements of a canvas-sized image in which no coefficient is zero."""
    return self.num_positions * self.num_channels // 2

  def tables(self) -> tuple[np.ndarray, np.ndarray]:
    """Quantisation steps of luma and chroma, int32 [B, B] (row: u, column: v).

    Both tables are scaled by libjpeg's rule: s = 5000 / q below quality 50,
    200 - 2 q from there; Q = clip(floor((s T + 50) / 100), 1, 255).
    """
    return tuple(
      _scale(_enlarge(table, self.block, self.table), self.quality)
      for table in (LUMA_TABLE, CHROMA_TABLE)
    )


@functools.cache
def zigzag(block: int) -> np.ndarray:
  """Natural index u * block + v of every zigzag index, int32 [block^2]."""
  u, v = np.divmod(np.arange(block**2), block)
  diagonal = u + v
  along = np.where(diagonal % 2, u, v)  # odd diagonals run downwards
  return np.lexsort((along, diagonal)).astype(np.int32)


@functools.cache
def basis(block: int) -> np.ndarray:
  """Orthonormal DCT-II, float64 [frequency, pixel]; its transpose inverts."""
  frequency, pixel = np.ogrid[:block, :block]
  waves = np.cos(np.pi * frequency * (2 * pixel + 1) / (2 * block))
  waves[0] /= np.sqrt(2)
  return waves * np.sqrt(2 / block)


def steps(codec: Codec) -> np.ndarray:
  """Quantisation step of every channel, int32 [3B^2]."""
  order = zigzag(codec.block)
  luma, chroma = (table.reshape(-1)[order] for table in codec.tables())
  return np.concatenate([luma, chroma, chroma])


def to_coefficients(codec: Codec, image: Array) -> jax.Array:
  """Transform and quantise images.

  Args:
    codec: block, quality and canvas.
    image: uint8 [..., h, w, 3]; h and w are multiples of 2B, at most the
      canvas.

  Returns:
    int32 [..., h/B, w/B, 3B^2], not clipped: round(coefficient / step). A
    chroma block (i, j) sits at (2i, 2j); other cells of chroma are zero.

  Raises:
    ValueError: a size or type that does not fit the codec.
  """
  _check_image(codec, image)
  pixels = jnp.asarray(image).astype(jnp.float32)
  y, cb, cr = (
    sum(pixels[..., i] * np.float32(row[i]) for i in range(3)) for row in COLOR
  )
  cb, cr = (
    reduce(plane, "... (h y) (w x) -> ... h w", "mean", y=2, x=2)
    for plane in (cb, cr)
  )
  planes = [
    _quantise(codec, plane, table)
    for plane, table in zip(
      (y - 128.0, cb, cr), np.array(codec.tables())[[0, 1, 1]]
    )
  ]
  planes[1:] = [_spread(plane) for plane in planes[1:]]
  return jnp.concatenate(planes, axis=-1)  # [..., r, c, 3B^2]


def to_image(codec: Codec, coefficients: Array) -> jax.Array:
  """Dequantise and invert: the nearest image to quantised coefficients.

  Args:
    codec: block, quality and chroma upsampling.
    coefficients: integers [..., r, c, 3B^2], r and c even.

  Returns:
    uint8 [..., r * B, c * B, 3].

  Raises:
    ValueError: the shape does not fit the codec.
  """
  coefficients = jnp.asarray(coefficients)
  shape = coefficients.shape
  if (
    len(shape) < 3
    or shape[-1] != codec.num_channels
    or any(n < 2 or n % 2 for n in shape[-3:-1])
  ):
    raise ValueError(
      f"coefficients {shape} must be [..., even rows, even columns,"
      f" {codec.num_channels}] for block {codec.block}"
    )
  values = coefficients.astype(jnp.float32) * steps(codec).astype(np.float32)
  values = rearrange(values, "... (p z) -> p ... z", p=3)
  y = _invert(codec, values[0]) + 128.0  # [..., h, w]
  cb, cr = (
    _upsample(codec, _invert(codec, values[p, ..., ::2, ::2, :]))
    for p in (1, 2)
  )
  red = y + 1.402 * cr
  green = y - 0.344136286 * cb - 0.714136286 * cr
  blue = y + 1.772 * cb
  pixels = jnp.stack([red, green, blue], axis=-1)  # [..., h, w, 3]
  return jnp.clip(jnp.round(pixels), 0, 255).astype(jnp.uint8)


def clip(codec: Codec, coefficients: Array) -> tuple[jax.Array, jax.Array]:
  """Clip values to the range that the list can hold.

  Returns:
    The clipped coefficients, and how many of an image changed, int32 [...].
  """
  clipped = jnp.clip(coefficients, -codec.max_value, codec.max_value)
  changed = jnp.sum(clipped != coefficients, axis=(-3, -2, -1))
  return clipped, changed.astype(jnp.int32)


def value_class(codec: Codec, value: Array) -> Array:
  """Class 0..2V-1 of a value in -V..V; 0, which marks no value, shares V."""
  return value + codec.max_value - (value > 0)


def class_value(codec: Codec, k: Array) -> Array:
  """Value in -V..V without 0 of a class 0..2V-1: inverts `value_class`."""
  return k - codec.max_value + (k >= codec.max_value)


def _quantise(codec, plane, table):
  b = codec.block
  transform = basis(b).astype(np.float32)
  blocks = rearrange(plane, "... (r y) (c x) -> ... r c y x", y=b, x=b)
  coefficients = jnp.einsum(
    "...yx,uy,vx->...uv",
    blocks,
    transform,
    transform,
    precision=jax.lax.Precision.HIGHEST,
  )
  scaled = coefficients / table.astype(np.float32)
  scaled = rearrange(scaled, "... u v -> ... (u v)")[..., zigzag(b)]
  return jnp.round(scaled - TIE).astype(jnp.int32)  # [..., r, c, B^2]


def _invert(codec, values):
  b = codec.block
  transform = basis(b).astype(np.float32)
  natural = values[..., np.argsort(zigzag(b))]
  blocks = jnp.einsum(
    "...uv,uy,vx->...yx",
    rearrange(natural, "... (u v) -> ... u v", u=b),
    transform,
    transform,
    precision=jax.lax.Precision.HIGHEST,
  )
  return rearrange(blocks, "... r c y x -> ... (r y) (c x)")  # [..., h, w]


def _spread(plane):
  """Puts a half-resolution grid on the even cells of the luma grid."""
  *batch, rows, cols, channels = plane.shape
  out = jnp.zeros((*batch, 2 * rows, 2 * cols, channels), plane.dtype)
  return out.at[..., ::2, ::2, :].set(plane)


def _upsample(codec, plane):
  if codec.upsampling == "nearest":
    return repeat(plane, "... h w -> ... (h y) (w x)", y=2, x=2)
  *batch, h, w = plane.shape
  return jax.image.resize(plane, (*batch, 2 * h, 2 * w), "linear")


def _enlarge(table, block, method):
  """Reads an 8 x 8 table at the frequencies of a larger block."""
  index = np.arange(block) * 8 / block  # the same cycles per pixel
  if method == "nearest":
    index = np.floor(index)
  low = np.floor(index).astype(int)
  high = np.minimum(low + 1, 7)
  part = index - low
  table = (1 - part)[:, None] * table[low] + part[:, None] * table[high]
  return (1 - part) * table[:, low] + part * table[:, high]


def _scale(table, quality):
  scale = 5000 // quality if quality < 50 else 200 - 2 * quality
  scaled = np.floor((table * scale + 50) / 100)
  return np.clip(scaled, 1, 255).astype(np.int32)


def _check_image(codec, image):
  unit = 2 * codec.block
  if image.ndim < 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
    raise ValueError(
      f"image {image.dtype}{list(image.shape)} must be uint8 [..., h, w, 3]"
    )
  h, w = image.shape[-3:-1]
  if h < unit or w < unit or h % unit or w % unit:
    raise ValueError(
      f"image of {h} x {w} pixels must have sides that are multiples of"
      f" {unit}, twice the block: crop or pad it first"
    )
  if h > codec.rows * codec.block or w > codec.cols * codec.block:
    raise ValueError(
      f"image of {h} x {w} pixels must fit the canvas of"
      f" {codec.rows * codec.block} x {codec.cols * codec.block}: resize it"
      " or raise rows and cols"
    )


def _check_choice(name, value, choices):
  if value not in choices:
    raise ValueError(f"{name} {value!r} must be one of {list(choices)}")
