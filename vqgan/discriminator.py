"""PatchGAN: one real-or-made logit per patch (Isola et al. 2017, app. 6.1.2).

Shapes: b batch, h w rows and columns, c channels.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from layers import convolution

_INIT = nn.initializers.normal(0.02)
_SLOPE = 0.2  # of LeakyReLU below zero


class Discriminator(nn.Module):
  """4x4 convolutions, halving the grid `num_layers` times.

  BatchNorm takes its statistics from all rows that it is called on, over all
  devices: the batch, or a piece of it where gradients are accumulated. Its
  running statistics are the collection "batch_stats".

  Attributes:
    channels: width of the first layer; it doubles per layer, up to 8 fold.
    num_layers: layers of stride 2.
    dtype: compute precision; statistics and parameters are float32.
  """

  channels: int = 64
  num_layers: int = 3
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, pixels, *, train=False):
    """Return logits float32 [b, h', w'] of pixels [b, h, w, c] in [-1, 1].

    Args:
      pixels: [b, h, w, c]; 256 x 256 pixels give 30 x 30 logits.
      train: normalise by the batch and move the running statistics, instead
        of normalising by them.
    """
    x = self._conv(self.channels, 2, "conv_0")(pixels.astype(self.dtype))
    x = nn.leaky_relu(x, _SLOPE)
    for i in range(1, self.num_layers + 1):
      stride = 2 if i < self.num_layers else 1
      width = self.channels * min(2**i, 8)
      x = self._conv(width, stride, f"conv_{i}", use_bias=False)(x)
      x = BatchNorm(self.dtype, name=f"norm_{i}")(x, train)
      x = nn.leaky_relu(x, _SLOPE)
    x = self._conv(1, 1, "logits")(x)
    return x[..., 0].astype(jnp.float32)  # [b, h', w']

  def _conv(self, width, stride, name, use_bias=True):
    return nn.Conv(
      width,
      (4, 4),
      stride,
      padding=1,
      use_bias=use_bias,
      kernel_init=_INIT,
      dtype=self.dtype,
      name=name,
      conv_general_dilated=convolution.convolve,
    )


def num_logits(model, size, channels):
  """Return how many logits an image [*size, channels] has; maybe none."""
  logits, _ = jax.eval_shape(
    lambda pixels: model.init_with_output(jax.random.key(0), pixels),
    jax.ShapeDtypeStruct((1, *size, channels), jnp.float32),
  )
  return logits.size


class BatchNorm(nn.Module):
  """Batch normalisation with PyTorch's running statistics.

  They move by a tenth per batch, and the variance kept is the unbiased one;
  the batch itself is normalised by the biased one.
  """

  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, train):
    """Return x [b, h, w, c] normalised over all but c."""
    width = x.shape[-1]
    scale = self.param(
      "scale", lambda key, shape: 1 + _INIT(key, shape), (width,)
    )
    bias = self.param("bias", nn.initializers.zeros, (width,))
    mean_ = self.variable("batch_stats", "mean", jnp.zeros, (width,))
    var_ = self.variable("batch_stats", "var", jnp.ones, (width,))
    x = x.astype(jnp.float32)
    mean, var = mean_.value, var_.value
    if train:
      mean = jnp.mean(x, (0, 1, 2))
      var = jnp.mean(jnp.square(x - mean), (0, 1, 2))
      if not self.is_initializing() and self.is_mutable_collection(
        "batch_stats"
      ):
        num = x.size // width
        mean_.value = 0.9 * mean_.value + 0.1 * mean
        var_.value = 0.9 * var_.value + 0.1 * var * num / max(num - 1, 1)
    inverse = jax.lax.rsqrt(var + 1e-5)
    return ((x - mean) * (inverse * scale) + bias).astype(self.dtype)
