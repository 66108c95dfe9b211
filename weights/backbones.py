"""The image classifiers whose features LPIPS compares, convolutions only.

AlexNet (Krizhevsky 2014), VGG16 (Simonyan and Zisserman 2015) and SqueezeNet
1.1 (Iandola et al. 2016), as torchvision has them: its `features.*` tensors
are converted by `convert`. Letters: `o` output channels.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

# torchvision's name of each network, and the channels of its taps.
NETWORKS = {
  "alex": ("alexnet", (64, 192, 384, 256, 256)),
  "vgg": ("vgg16", (64, 128, 256, 512, 512)),
  "squeeze": ("squeezenet1_1", (64, 128, 256, 384, 384, 512, 512)),
}


class Alex(nn.Module):
  """AlexNet; taps after each of the five activations."""

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> list[jax.Array]:
    """Maps normalised pixels [b, h, w, 3] to the taps, fine to coarse."""
    taps = []
    x = nn.relu(_conv(0, 64, 11, 4, 2, self.dtype)(x))
    taps.append(x)
    x = nn.relu(_conv(3, 192, 5, 1, 2, self.dtype)(_pool(x, 3)))
    taps.append(x)
    x = nn.relu(_conv(6, 384, 3, 1, 1, self.dtype)(_pool(x, 3)))
    taps.append(x)
    for index in (8, 10):
      x = nn.relu(_conv(index, 256, 3, 1, 1, self.dtype)(x))
      taps.append(x)
    return taps


class Vgg(nn.Module):
  """VGG16; taps relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3."""

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> list[jax.Array]:
    """Maps normalised pixels [b, h, w, 3] to the taps, fine to coarse."""
    taps, index = [], 0
    for level, (width, depth) in enumerate(
      zip((64, 128, 256, 512, 512), (2, 2, 3, 3, 3))
    ):
      if level:
        x = _pool(x, 2)
      for _ in range(depth):
        x = nn.relu(_conv(index, width, 3, 1, 1, self.dtype)(x))
        index += 2
      index += 1
      taps.append(x)
    return taps


class Squeeze(nn.Module):
  """SqueezeNet 1.1; taps before each pool and after the last fires."""

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> list[jax.Array]:
    """Maps normalised pixels [b, h, w, 3] to the taps, fine to coarse."""
    x = nn.relu(_conv(0, 64, 3, 2, 0, self.dtype)(x))
    taps = [x]
    for stage in (
      ((3, 16), (4, 16)),
      ((6, 32), (7, 32)),
      ((9, 48),),
    ):
      x = _pool(x, 3, ceil=True)
      for index, width in stage:
        x = self._fire(x, index, width)
      taps.append(x)
    for index, width in ((10, 48), (11, 64), (12, 64)):
      x = self._fire(x, index, width)
      taps.append(x)
    return taps

  def _fire(self, x: jax.Array, index: int, width: int) -> jax.Array:
    """Squeezes to `width` channels, then expands to 8 times as many."""

    def conv(name, channels, size):
      return nn.Conv(
        channels,
        (size, size),
        padding=size // 2,
        dtype=self.dtype,
        name=f"features_{index}_{name}",
      )

    x = nn.relu(conv("squeeze", width, 1)(x))
    y = nn.relu(conv("expand1x1", 4 * width, 1)(x))
    z = nn.relu(conv("expand3x3", 4 * width, 3)(x))
    return jnp.concatenate([y, z], axis=-1)


MODULES = {"alex": Alex, "vgg": Vgg, "squeeze": Squeeze}


def convert(net: str, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Turns torchvision's state dict into parameters.

  Args:
    net: One of `NETWORKS`.
    tensors: Named arrays, kernels [o, c, h, w]. Those outside `features.`
      (the classifier) are left out.

  Raises:
    ValueError: A tensor is missing or has another shape.
  """
  params: dict[str, Any] = {}
  for name, shape in shapes(net).items():
    if name not in tensors:
      raise ValueError(f"{net}: the file has no tensor {name}")
    array = np.asarray(tensors[name], np.float32)
    if array.shape != shape:
      raise ValueError(f"{net}: {name} has shape {array.shape}, not {shape}")
    module, leaf = name.rsplit(".", 1)
    target = params.setdefault(module.replace(".", "_"), {})
    if leaf == "weight":
      target["kernel"] = rearrange(array, "o c h w -> h w c o")
    else:
      target["bias"] = array
  return params


def shapes(net: str) -> dict[str, tuple[int, ...]]:
  """Lists the tensors that `convert` reads, by torchvision's names."""
  module = MODULES[check(net)]()
  pixels = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  params = jax.eval_shape(module.init, jax.random.key(0), pixels)["params"]
  found = {}
  for name, leaves in params.items():
    module_name = name.replace("_", ".")
    h, w, c, o = leaves["kernel"].shape
    found[f"{module_name}.weight"] = (o, c, h, w)
    found[f"{module_name}.bias"] = (o,)
  return found


def check(net: str) -> str:
  """Returns `net`, or raises ValueError with the choices."""
  if net not in NETWORKS:
    raise ValueError(f"{net!r} is not one of {', '.join(NETWORKS)}")
  return net


def _conv(index, channels, size, stride, pad, dtype) -> nn.Conv:
  return nn.Conv(
    channels,
    (size, size),
    strides=stride,
    padding=pad,
    dtype=dtype,
    name=f"features_{index}",
  )


def _pool(x: jax.Array, size: int, ceil: bool = False) -> jax.Array:
  """Takes maxima at stride 2; `ceil` keeps a last, partial window."""
  pads = [(0, 0), (0, 0)]
  if ceil:
    pads = [(0, -(n - size) % 2) for n in x.shape[1:3]]
  return nn.max_pool(x, (size, size), (2, 2), pads)
