"""Convolutional encoder and decoder of VQGAN (Esser et al. 2021, Table 7).

Shapes: b batch, h w rows and columns, c channels, l positions of a grid. A
model with m + 1 levels halves both axes m times: f = 2^m pixels per latent.

Convolutions begin as Flax's do (variance 1 / fan-in, no bias); the authors'
begin as PyTorch's, with a third of that variance and with biases.
"""

import dataclasses
import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange, repeat

from layers import attention, convolution

_EPSILON = 1e-6
_QUERIES = 4096  # queries that attend at once, to bound the memory


@dataclasses.dataclass(frozen=True)
class Shape:
  """Sizes of an autoencoder; the defaults are the paper's f = 16 model.

  Attributes:
    channels: width of the first level.
    multipliers: width of each level over `channels`, fullest resolution
      first; one level fewer than these halves the grid.
    num_blocks: residual blocks per level (the decoder has one more).
    attention: nominal resolutions whose blocks are followed by attention.
    resolution: nominal pixels per side. It places the attention; images of
      any size that the factor divides are accepted.
    in_channels: channels of the image.
    z_channels: channels of the latent grid.
    dropout: rate inside residual blocks.
    norm_groups: most groups of a GroupNorm.
    norm_least: least channels per group. 32 groups at width 32 normalise each
      channel alone and lose quality; the authors' narrow models need 1.
    remat: recompute every block in the backward pass, to save memory.
  """

  channels: int = 128
  multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
  num_blocks: int = 2
  attention: tuple[int, ...] = (16,)
  resolution: int = 256
  in_channels: int = 3
  z_channels: int = 256
  dropout: float = 0.0
  norm_groups: int = 32
  norm_least: int = 4
  remat: bool = False

  @property
  def factor(self):
    """f, the pixels per latent along one axis."""
    return 2 ** (len(self.multipliers) - 1)

  def attends(self, level):
    """Return whether blocks of this level are followed by attention."""
    return self.resolution // 2**level in self.attention

  def groups(self, channels):
    """Return the number of groups that normalise this many channels."""
    most = max(1, min(self.norm_groups, channels // self.norm_least))
    return next(n for n in range(most, 0, -1) if channels % n == 0)


class GroupNorm(nn.Module):
  """Normalise groups of channels over the grid (Wu & He 2018), in float32.

  Two passes, so that a large mean costs no precision; sums run over the grid
  before the group, which XLA does faster than over both at once.
  """

  num_groups: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x):
    """Return x [b, h, w, c] with mean 0, deviation 1, scaled and shifted."""
    channels = x.shape[-1]
    scale = self.param("scale", nn.initializers.ones, (channels,))
    bias = self.param("bias", nn.initializers.zeros, (channels,))
    size = channels // self.num_groups

    def over_groups(y):
      y = jnp.mean(y, (1, 2)).reshape(-1, self.num_groups, size).mean(-1)
      return repeat(y, "b g -> b 1 1 (g k)", k=size)  # [b, 1, 1, c]

    x = x.astype(jnp.float32)
    x = x - over_groups(x)
    inverse = jax.lax.rsqrt(over_groups(x * x) + _EPSILON)
    return (x * (inverse * scale) + bias).astype(self.dtype)


class ResidualBlock(nn.Module):
  """x + conv(swish(norm(conv(swish(norm(x)))))); 1x1 skip where c changes."""

  channels: int
  shape: Shape
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, train):
    """Map [b, h, w, c'] to [b, h, w, channels]."""
    norm = lambda y, name: GroupNorm(
      self.shape.groups(y.shape[-1]), self.dtype, name=name
    )(y)
    conv = functools.partial(_conv, self.channels, dtype=self.dtype)
    y = conv(name="conv_1")(nn.swish(norm(x, "norm_1")))
    y = nn.swish(norm(y, "norm_2"))
    y = nn.Dropout(self.shape.dropout, deterministic=not train)(y)
    y = conv(name="conv_2")(y)
    if x.shape[-1] != self.channels:
      x = nn.Dense(self.channels, dtype=self.dtype, name="skip")(x)
    return x + y


class AttentionBlock(nn.Module):
  """x + projection of one attention head over all positions of the grid."""

  shape: Shape
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x):
    """Map [b, h, w, c] to [b, h, w, c]."""
    rows, channels = x.shape[1], x.shape[-1]
    dense = functools.partial(nn.Dense, channels, dtype=self.dtype)
    y = GroupNorm(self.shape.groups(channels), self.dtype, name="norm")(x)
    y = rearrange(y, "b h w c -> b (h w) 1 c")  # one head
    q, k, v = (dense(name=name)(y) for name in ("query", "key", "value"))
    y = attention.attend_in_pieces(q, k, v, size=_QUERIES)  # [b, l, 1, c]
    y = dense(name="out")(y)
    return x + rearrange(y, "b (h w) 1 c -> b h w c", h=rows)


class Encoder(nn.Module):
  """Image to latent grid."""

  shape: Shape
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, *, train=False):
    """Map pixels [b, h, w, c] in [-1, 1] to latents [b, h/f, w/f, z].

    Raises:
      ValueError: if f does not divide h and w, or c is not in_channels.
    """
    shape = self.shape
    _check_image(x, shape)
    residual, attend = _blocks(shape, self.dtype)
    x = _conv(shape.channels, self.dtype, "conv_in")(x.astype(self.dtype))
    last = len(shape.multipliers) - 1
    for i, multiplier in enumerate(shape.multipliers):
      for j in range(shape.num_blocks):
        name = f"down_{i}_block_{j}"
        x = residual(shape.channels * multiplier, name=name)(x, train)
        if shape.attends(i):
          x = attend(name=f"down_{i}_attention_{j}")(x)
      if i < last:
        x = _downsample(x, self.dtype, f"down_{i}_downsample")
    x = _middle(residual, attend, x, train)
    x = GroupNorm(shape.groups(x.shape[-1]), self.dtype, name="norm_out")(x)
    return _conv(shape.z_channels, self.dtype, "conv_out")(nn.swish(x))


class Decoder(nn.Module):
  """Latent grid to image, without a squashing function at the end."""

  shape: Shape
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, z, *, train=False):
    """Map latents [b, h/f, w/f, z] to an image and what made it.

    Returns:
      (image float32 [b, h, w, c], features [b, h, w, channels]): the image is
      the convolution "conv_out" of the features, which the adaptive weight of
      the adversarial loss needs (see `vqgan.losses`).
    """
    shape = self.shape
    residual, attend = _blocks(shape, self.dtype)
    width = shape.channels * shape.multipliers[-1]
    x = _conv(width, self.dtype, "conv_in")(z.astype(self.dtype))
    x = _middle(residual, attend, x, train)
    for i in reversed(range(len(shape.multipliers))):
      width = shape.channels * shape.multipliers[i]
      for j in range(shape.num_blocks + 1):
        x = residual(width, name=f"up_{i}_block_{j}")(x, train)
        if shape.attends(i):
          x = attend(name=f"up_{i}_attention_{j}")(x)
      if i > 0:
        x = _upsample(x, self.dtype, f"up_{i}_upsample")
    x = GroupNorm(shape.groups(x.shape[-1]), self.dtype, name="norm_out")(x)
    features = nn.swish(x)
    image = _conv(shape.in_channels, self.dtype, "conv_out")(features)
    return image.astype(jnp.float32), features


class Autoencoder(nn.Module):
  """Encoder, quantizer and decoder, with a 1x1 layer around the quantizer.

  Attributes:
    shape: sizes of encoder and decoder.
    quantizer: a module of `vqgan.quantizer`; its `width` is the width of z.
    dtype: compute precision; parameters and quantizer stay float32.
  """

  shape: Shape
  quantizer: nn.Module
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    self.encoder = Encoder(self.shape, self.dtype)
    self.decoder = Decoder(self.shape, self.dtype)
    self.before = nn.Dense(self.quantizer.width, dtype=self.dtype)
    self.after = nn.Dense(self.shape.z_channels, dtype=self.dtype)

  def __call__(self, pixels, *, train=False, temperature=None):
    """Encode, quantize, decode.

    Args:
      pixels: [b, h, w, c] in [-1, 1].
      train: whether to drop out (needs the key "dropout") and, in a Gumbel
        quantizer, to draw (needs the key "gumbel").
      temperature: of a Gumbel quantizer in training.

    Returns:
      (image [b, h, w, c], features, z float32 [b, h/f, w/f, width],
      `quantizer.Quantized`).
    """
    z = self.encode(pixels, train=train)
    quantized = self.quantizer(z, train=train, temperature=temperature)
    image, features = self.decoder(self.after(quantized.z), train=train)
    return image, features, z, quantized

  def encode(self, pixels, *, train=False):
    """Return the latents before the quantizer, float32 [b, h/f, w/f, width]."""
    z = self.before(self.encoder(pixels, train=train))
    return z.astype(jnp.float32)

  def tokenize(self, pixels):
    """Return the codes int32 [b, h/f, w/f] of pixels [b, h, w, c]."""
    return self.quantizer(self.encode(pixels)).codes

  def decode(self, codes):
    """Return the float32 image [b, h, w, c] of codes [b, h/f, w/f]."""
    return self.decoder(self.after(self.quantizer.embed(codes)))[0]


def _blocks(shape, dtype):
  residual, attend = ResidualBlock, AttentionBlock
  if shape.remat:
    residual = nn.remat(residual, static_argnums=(2,))  # train
    attend = nn.remat(attend)
  return (
    functools.partial(residual, shape=shape, dtype=dtype),
    functools.partial(attend, shape=shape, dtype=dtype),
  )


def _middle(residual, attend, x, train):
  x = residual(x.shape[-1], name="mid_block_1")(x, train)
  x = attend(name="mid_attention")(x)
  return residual(x.shape[-1], name="mid_block_2")(x, train)


def _conv(features, dtype, name):
  return nn.Conv(
    features,
    (3, 3),
    padding="SAME",
    dtype=dtype,
    name=name,
    conv_general_dilated=convolution.convolve,
  )


def _downsample(x, dtype, name):
  """Halve the grid; zeros right and below only, as the authors have it."""
  return nn.Conv(
    x.shape[-1],
    (3, 3),
    2,
    ((0, 1), (0, 1)),
    dtype=dtype,
    name=name,
    conv_general_dilated=convolution.convolve,
  )(x)


def _upsample(x, dtype, name):
  """Double the grid, repeating every pixel, and convolve."""
  return nn.Conv(
    x.shape[-1],
    (3, 3),
    padding="SAME",
    dtype=dtype,
    name=name,
    conv_general_dilated=convolution.convolve_doubled,
  )(x)


def _check_image(x, shape):
  chex.assert_rank(x, 4)
  for size in x.shape[1:3]:
    if size % shape.factor:
      raise ValueError(
        f"image of {x.shape[1]} x {x.shape[2]} pixels: both must be multiples "
        f"of {shape.factor}; crop it or pad its edge"
      )
  if x.shape[3] != shape.in_channels:
    raise ValueError(
      f"image has {x.shape[3]} channels, the model {shape.in_channels}: set "
      "data.channels to those of images, data.num_labels to those of label maps"
    )
