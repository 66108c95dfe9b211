"""LPIPS v0.1: a perceptual distance, as a loss (vgg) and a metric (alex).

d(a, b) = sum over taps of mean over positions of sum_c w_c (a_c - b_c)^2,
where a and b are features scaled to unit length over the channels (Zhang et
al. 2018, eq. 1). Always deterministic: the heads' dropout is left out.
"""

import os
import zlib
from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from weights import backbones, download, safetensors, torch_file

# Inputs in [-1, 1] to torchvision's normalisation (the reference's numbers).
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
# Inside the root, so that the gradient of black features is finite.
_EPSILON = 1e-10


def distance(
  params: Mapping[str, Any],
  a: jax.Array,
  b: jax.Array,
  *,
  net: str = "vgg",
  dtype: Any = jnp.float32,
) -> jax.Array:
  """Returns the distance of each pair, [b], float32.

  Args:
    params: Of `load`, `convert` or `random`; for the same `net`.
    a: Pixels [b, h, w, 3] in [-1, 1].
    b: The same shape.
    net: "vgg" (losses), "alex" (metrics) or "squeeze".
    dtype: Precision of the convolutions; the rest is float32.

  Raises:
    ValueError: The network is unknown or the images are too small for it.
  """
  return sum(layers(params, a, b, net=net, dtype=dtype))


def layers(
  params: Mapping[str, Any],
  a: jax.Array,
  b: jax.Array,
  *,
  net: str = "vgg",
  dtype: Any = jnp.float32,
) -> list[jax.Array]:
  """Returns the terms of `distance`, one [b] for each tap."""
  chex.assert_rank(a, 4)
  chex.assert_equal_shape([a, b])
  module = backbones.MODULES[backbones.check(net)](dtype=dtype)
  # On TPU the default float32 product is bfloat16: 1e-2 off.
  exact = "highest" if jnp.dtype(dtype) == jnp.float32 else None

  def features(x):
    x = (x.astype(jnp.float32) - jnp.asarray(_SHIFT)) / jnp.asarray(_SCALE)
    with jax.default_matmul_precision(exact):
      return module.apply({"params": params["backbone"]}, x.astype(dtype))

  terms = []
  # One at a time: a gradient to one of them passes through one of them.
  for i, taps in enumerate(zip(features(a), features(b))):
    if 0 in taps[0].shape:
      raise ValueError(
        f"images of {a.shape[1]} x {a.shape[2]} are too small for LPIPS with"
        f" {net}: it needs a side of at least 32"
      )
    first, second = (_normalize(tap.astype(jnp.float32)) for tap in taps)
    weight = params["heads"][f"lin{i}"]
    terms.append(((first - second) ** 2 * weight).sum(-1).mean((1, 2)))  # [b]
  return terms


def load(
  net: str = "vgg",
  backbone: str | os.PathLike | None = None,
  heads: str | os.PathLike | None = None,
) -> dict[str, Any]:
  """Loads the parameters from files, the public ones by default.

  Args:
    net: "vgg", "alex" or "squeeze".
    backbone: torchvision's file or its `.safetensors`; None fetches it.
    heads: The reference's v0.1 file or its `.safetensors`; None fetches it.

  Raises:
    WeightsMissing: A file is absent and cannot be fetched.
    ValueError: A file is not what it should be.
  """
  name, _ = backbones.NETWORKS[backbones.check(net)]
  backbone = backbone or download.fetch(name)
  heads = heads or download.fetch(f"lpips_{net}")
  return convert(net, _read(backbone), _read(heads))


def convert(
  net: str,
  backbone: Mapping[str, np.ndarray],
  heads: Mapping[str, np.ndarray],
) -> dict[str, Any]:
  """Turns the reference's tensors into parameters.

  Args:
    net: "vgg", "alex" or "squeeze".
    backbone: torchvision's tensors, `features.*`.
    heads: `lin{i}.model.1.weight` [1, c, 1, 1].

  Returns:
    `{"backbone": ..., "heads": {"lin0": [c], ...}}`, float32.

  Raises:
    ValueError: A tensor is missing, mis-shaped or a head is negative.
  """
  _, channels = backbones.NETWORKS[backbones.check(net)]
  found = {}
  for i, c in enumerate(channels):
    name = f"lin{i}.model.1.weight"
    if name not in heads:
      raise ValueError(f"LPIPS heads: the file has no tensor {name}")
    head = np.asarray(heads[name], np.float32)
    if head.shape != (1, c, 1, 1):
      raise ValueError(
        f"LPIPS heads: {name} has shape {head.shape}, {net} needs"
        f" {(1, c, 1, 1)}"
      )
    if not (head >= 0).all():
      raise ValueError(f"LPIPS heads: {name} has negative weights")
    found[f"lin{i}"] = head.reshape(c)
  return {"backbone": backbones.convert(net, backbone), "heads": found}


def random(net: str = "vgg", seed: int = 0) -> dict[str, Any]:
  """Returns random parameters for tests: no distance anybody reports.

  Every tensor is a pure function of the seed and of its name, so that other
  implementations can draw the same (He et al. 2015 for the kernels).
  """
  prefix, channels = backbones.NETWORKS[backbones.check(net)]
  tensors = {}
  for name, shape in backbones.shapes(net).items():
    draw = _draw(f"{prefix}/{name}", seed)
    scale = 0.05 if len(shape) == 1 else (2 / np.prod(shape[1:])) ** 0.5
    tensors[name] = (draw.randn(*shape) * scale).astype(np.float32)
  heads = {
    f"lin{i}.model.1.weight": _draw(f"{prefix}/lin{i}", seed)
    .uniform(0, 0.5, (1, c, 1, 1))
    .astype(np.float32)
    for i, c in enumerate(channels)
  }
  return convert(net, tensors, heads)


def _normalize(x: jax.Array) -> jax.Array:
  """Scales features to unit length over the channels."""
  return x / jnp.sqrt(jnp.sum(x**2, axis=-1, keepdims=True) + _EPSILON)


def _draw(name: str, seed: int) -> np.random.RandomState:
  label = f"{name}#{seed}" if seed else name
  return np.random.RandomState(zlib.crc32(label.encode()) & 0x7FFFFFFF)


def _read(path: str | os.PathLike) -> dict[str, np.ndarray]:
  if os.fspath(path).endswith(".safetensors"):
    return safetensors.load(path)[0]
  return torch_file.state_dict(path)
