"""The Inception-v3 network of 2015 that FID means (Szegedy et al. 2015).

Not today's ImageNet Inception: average pools leave the padding out, the last
block takes a maximum where the others average, BatchNorm has eps 1e-3, and
there are 1008 classes. Modules have the names of the public PyTorch file.
BatchNorm is folded into the convolutions when weights are converted.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, reduce
from flax import linen as nn

SIDE = 299
NUM_FEATURES = 2048
NUM_SPATIAL = 2023  # 17 x 17 positions of 7 channels
NUM_CLASSES = 1008
_BATCHNORM_EPSILON = 1e-3
# sFID reads TensorFlow's `mixed_6/conv`, which is the 1x1 branch of this one.
_SPATIAL_BLOCK = "Mixed_6d"
_SPATIAL_CHANNELS = 7

# Output channels, kernel, stride and padding of each convolution.
_STEM = {
  "Conv2d_1a_3x3": (32, (3, 3), 2, "VALID"),
  "Conv2d_2a_3x3": (32, (3, 3), 1, "VALID"),
  "Conv2d_2b_3x3": (64, (3, 3), 1, "SAME"),
  "Conv2d_3b_1x1": (80, (1, 1), 1, "VALID"),
  "Conv2d_4a_3x3": (192, (3, 3), 1, "VALID"),
}


class Inception(nn.Module):
  """The network, from normalised pixels to the three kinds of features."""

  @nn.compact
  def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
    """Maps pixels [b, 299, 299, 3] in [-1, 1] to features.

    Returns:
      `pool` [b, 2048], the features of FID; `spatial` [b, 2023], those of
      sFID; `logits` [b, 1008], without bias as the Inception Score wants.
    """
    if x.shape[1:] != (SIDE, SIDE, 3):
      raise ValueError(f"pixels are {x.shape}, not [b, {SIDE}, {SIDE}, 3]")
    for name, spec in _STEM.items():
      if name == "Conv2d_3b_1x1":
        x = _max_pool(x)
      x = _Conv(*spec, name=name)(x)
    x = _max_pool(x)  # [b, 35, 35, 192]
    for name, channels in zip(("5b", "5c", "5d"), (32, 64, 64)):
      x = _BlockA(channels, name=f"Mixed_{name}")(x)
    x = _BlockB(name="Mixed_6a")(x)  # [b, 17, 17, 768]
    spatial = None
    for name, channels in zip(("6b", "6c", "6d", "6e"), (128, 160, 160, 192)):
      x = _BlockC(channels, name=f"Mixed_{name}")(x)
      if f"Mixed_{name}" == _SPATIAL_BLOCK:
        spatial = x[..., :_SPATIAL_CHANNELS]  # the 1x1 branch comes first
    x = _BlockD(name="Mixed_7a")(x)  # [b, 8, 8, 1280]
    x = _BlockE(_average_pool, name="Mixed_7b")(x)
    x = _BlockE(_last_pool, name="Mixed_7c")(x)  # [b, 8, 8, 2048]
    pool = reduce(x, "b h w c -> b c", "mean")
    logits = nn.Dense(NUM_CLASSES, use_bias=False, name="fc")(pool)
    return {
      "pool": pool,
      "spatial": rearrange(spatial, "b h w c -> b (h w c)"),
      "logits": logits,
    }


def features(params: Mapping[str, Any], x: jax.Array) -> dict[str, jax.Array]:
  """Applies the network in float32 at the highest precision.

  Args:
    params: Of `convert` or `random`.
    x: Pixels [b, 299, 299, 3], normalised as in `preprocess`.

  Returns:
    As `Inception.__call__`.
  """
  # The default products on TPU are bfloat16, which is 1e-2 off.
  with jax.default_matmul_precision("highest"):
    return Inception().apply({"params": params}, x.astype(jnp.float32))


def convert(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Turns the public PyTorch file's tensors into parameters.

  Args:
    tensors: Named as in `pt_inception-2015-12-05`; kernels [o, c, h, w].

  Raises:
    ValueError: A tensor is missing or has another shape.
  """
  expected = shapes()
  for name, shape in expected.items():
    if name not in tensors:
      raise ValueError(f"Inception weights: no tensor {name}")
    if np.shape(tensors[name]) != shape:
      raise ValueError(
        f"Inception weights: {name} has shape {np.shape(tensors[name])},"
        f" not {shape}"
      )
  params: dict[str, Any] = {}
  for name in expected:
    if not name.endswith(".conv.weight"):
      continue
    path = name.removesuffix(".conv.weight")
    scale, shift = _batchnorm(tensors, path)
    kernel = rearrange(np.float64(tensors[name]), "o c h w -> h w c o") * scale
    target = params
    for part in path.split("."):
      target = target.setdefault(part, {})
    target["conv"] = {
      "kernel": kernel.astype(np.float32),
      "bias": shift.astype(np.float32),
    }
  head = np.float32(tensors["fc.weight"])
  params["fc"] = {"kernel": rearrange(head, "o c -> c o").copy()}
  return params


def shapes() -> dict[str, tuple[int, ...]]:
  """Lists the tensors that `convert` reads, by the PyTorch file's names."""
  pixels = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
  variables = jax.eval_shape(Inception().init, jax.random.key(0), pixels)
  found: dict[str, tuple[int, ...]] = {}

  def visit(tree: Mapping[str, Any], path: str) -> None:
    if "conv" in tree:
      h, w, c, o = tree["conv"]["kernel"].shape
      found[f"{path}conv.weight"] = (o, c, h, w)
      for leaf in ("weight", "bias", "running_mean", "running_var"):
        found[f"{path}bn.{leaf}"] = (o,)
      return
    for name, child in tree.items():
      visit(child, f"{path}{name}.")

  params = dict(variables["params"])
  head = params.pop("fc")["kernel"].shape
  visit(params, "")
  found["fc.weight"] = (head[1], head[0])
  return found


def _batchnorm(tensors, path: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns a normalisation as a scale and a shift, float64 [o]."""
  weight, bias, mean, variance = (
    np.float64(tensors[f"{path}.bn.{leaf}"])
    for leaf in ("weight", "bias", "running_mean", "running_var")
  )
  scale = weight / np.sqrt(variance + _BATCHNORM_EPSILON)
  return scale, bias - mean * scale


class _Conv(nn.Module):
  """A convolution and a ReLU."""

  channels: int
  kernel: tuple[int, int] = (1, 1)
  stride: int = 1
  padding: str = "SAME"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    conv = nn.Conv(
      self.channels,
      self.kernel,
      strides=self.stride,
      padding=self.padding,
      name="conv",
    )
    return nn.relu(conv(x))


def _chain(x: jax.Array, prefix: str, specs: Sequence[tuple]) -> jax.Array:
  """Applies convolutions named `prefix` + 1, 2, ... one after another."""
  for i, spec in enumerate(specs):
    x = _Conv(*spec, name=f"{prefix}{i + 1}")(x)
  return x


def _concatenate(*branches: jax.Array) -> jax.Array:
  return jnp.concatenate(branches, axis=-1)


class _BlockA(nn.Module):
  """Mixed_5: 1x1, 5x5 and double 3x3 at 35 x 35."""

  pool_channels: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return _concatenate(
      _Conv(64, name="branch1x1")(x),
      _chain(x, "branch5x5_", [(48,), (64, (5, 5))]),
      _chain(x, "branch3x3dbl_", [(64,), (96, (3, 3)), (96, (3, 3))]),
      _Conv(self.pool_channels, name="branch_pool")(_average_pool(x)),
    )


class _BlockB(nn.Module):
  """Mixed_6a: from 35 x 35 to 17 x 17."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    halve = (96, (3, 3), 2, "VALID")
    return _concatenate(
      _Conv(384, (3, 3), 2, "VALID", name="branch3x3")(x),
      _chain(x, "branch3x3dbl_", [(64,), (96, (3, 3)), halve]),
      _max_pool(x),
    )


class _BlockC(nn.Module):
  """Mixed_6b to 6e: factorised 7x7 at 17 x 17."""

  channels: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    c, row, column = self.channels, (1, 7), (7, 1)
    return _concatenate(
      _Conv(192, name="branch1x1")(x),
      _chain(x, "branch7x7_", [(c,), (c, row), (192, column)]),
      _chain(
        x,
        "branch7x7dbl_",
        [(c,), (c, column), (c, row), (c, column), (192, row)],
      ),
      _Conv(192, name="branch_pool")(_average_pool(x)),
    )


class _BlockD(nn.Module):
  """Mixed_7a: from 17 x 17 to 8 x 8."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return _concatenate(
      _chain(x, "branch3x3_", [(192,), (320, (3, 3), 2, "VALID")]),
      _chain(
        x,
        "branch7x7x3_",
        [(192,), (192, (1, 7)), (192, (7, 1)), (192, (3, 3), 2, "VALID")],
      ),
      _max_pool(x),
    )


class _BlockE(nn.Module):
  """Mixed_7b and 7c at 8 x 8; they differ in their pool."""

  pool: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    y = _Conv(384, name="branch3x3_1")(x)
    z = _Conv(448, name="branch3x3dbl_1")(x)
    z = _Conv(384, (3, 3), name="branch3x3dbl_2")(z)
    return _concatenate(
      _Conv(320, name="branch1x1")(x),
      _Conv(384, (1, 3), name="branch3x3_2a")(y),
      _Conv(384, (3, 1), name="branch3x3_2b")(y),
      _Conv(384, (1, 3), name="branch3x3dbl_3a")(z),
      _Conv(384, (3, 1), name="branch3x3dbl_3b")(z),
      _Conv(192, name="branch_pool")(self.pool(x)),
    )


def _max_pool(x: jax.Array) -> jax.Array:
  return nn.max_pool(x, (3, 3), (2, 2))


def _average_pool(x: jax.Array) -> jax.Array:
  return nn.avg_pool(
    x, (3, 3), padding=((1, 1), (1, 1)), count_include_pad=False
  )


def _last_pool(x: jax.Array) -> jax.Array:
  """A maximum, by what seems to have been an oversight in 2015."""
  return nn.max_pool(x, (3, 3), padding=((1, 1), (1, 1)))
