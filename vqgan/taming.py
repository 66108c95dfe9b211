"""The authors' first stages: their files and yaml to our settings.

Their checkpoints and configurations (CompVis/taming-transformers, and the
autoencoders of latent-diffusion) are read unchanged; without a configuration
the shapes tell it. The tensors are mapped in `vqgan.taming_tensors`.
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import yaml

from vqgan import autoencoder, discriminator, quantizer
from weights import safetensors, torch_file

Tensors = Mapping[str, np.ndarray]

_IMAGE_MODELS = ("VQModel", "VQNoDiscModel", "EMAVQ", "VQModelInterface")
_MODELS = (*_IMAGE_MODELS, "GumbelVQ", "VQSegmentationModel")


class TamingError(ValueError):
  """A checkpoint or configuration that is no first stage of the authors."""


@dataclasses.dataclass(frozen=True)
class FirstStage:
  """A first stage of the authors as ours.

  Attributes:
    shape: sizes of the autoencoder.
    quantizer: the quantizer's settings.
    target: "image" or "segmentation".
    critic: the discriminator's settings, or None where the file has none.
    loss: `lossconfig.params` as the authors wrote them, {} without a yaml.
    base_learning_rate: per image of the global batch, or None.
  """

  shape: autoencoder.Shape
  quantizer: Any
  target: str = "image"
  critic: discriminator.Discriminator | None = None
  loss: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  base_learning_rate: float | None = None

  def module(self, dtype=jnp.float32):
    """Return the autoencoder."""
    return autoencoder.Autoencoder(self.shape, self.quantizer, dtype)

  def learning_rate(self, batch_size):
    """Return the rate the authors train with at a global batch."""
    base = self.base_learning_rate
    return (4.5e-6 if base is None else base) * batch_size


@contextlib.contextmanager
def typed(what: str) -> Iterator[None]:
  """Turn what a malformed file makes our code raise into a TamingError.

  Args:
    what: "the configuration" or "the checkpoint", for the message.
  """
  try:
    yield
  except TamingError:
    raise
  except KeyError as error:
    raise TamingError(f"{what} has no {error}") from error
  except (
    ArithmeticError,
    AttributeError,
    IndexError,
    TypeError,
    ValueError,
  ) as error:
    raise TamingError(f"{what} is malformed: {error}") from error


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Return the tensors of a `.ckpt`, `.pt`, `.pth` or `.safetensors` file.

  Nothing in the file is executed (see `weights.torch_file`).
  """
  if os.fspath(path).endswith(".safetensors"):
    return safetensors.load(path)[0]
  return torch_file.state_dict(path)


def read_config(path: str | os.PathLike) -> dict[str, Any]:
  """Return the entry `model` of the authors' yaml.

  Raises:
    TamingError: the file is no yaml or has no such entry.
  """
  with open(path, encoding="utf-8") as file:
    try:
      config = yaml.safe_load(file)
    except yaml.YAMLError as error:
      line = " ".join(str(error).split())
      raise TamingError(f"{path} is no readable yaml: {line}") from error
  if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
    raise TamingError(f'{path} has no entry "model": give the model\'s yaml')
  return config["model"]


def part(tensors: Tensors, prefix: str) -> dict[str, np.ndarray]:
  """Return the tensors below a prefix such as "first_stage_model."."""
  return {
    name.removeprefix(prefix): tensor
    for name, tensor in tensors.items()
    if name.startswith(prefix)
  }


@typed("the configuration")
def from_config(config: Mapping[str, Any], tensors: Tensors) -> FirstStage:
  """Return the settings that a yaml's `model` entry describes.

  Args:
    config: `target` and `params` of `taming.models.vqgan.*` or
      `ldm.models.autoencoder.*`.
    tensors: the state dict; its discriminator and the codes in use (their
      `remap`) are found by their shapes.

  Raises:
    TamingError: another class, or an option that we do not have.
  """
  name = str(config.get("target", "")).rsplit(".", 1)[-1]
  if name not in _MODELS:
    raise TamingError(
      f'target "{config.get("target")}" is no first stage: known are '
      f"{', '.join(_MODELS)}"
    )
  params = config.get("params", {})
  sizes, width = params["ddconfig"], int(params["embed_dim"])
  shape = autoencoder.Shape(
    channels=sizes["ch"],
    multipliers=tuple(sizes["ch_mult"]),
    num_blocks=sizes["num_res_blocks"],
    attention=tuple(sizes["attn_resolutions"]),
    resolution=sizes["resolution"],
    in_channels=sizes["in_channels"],
    z_channels=sizes["z_channels"],
    dropout=sizes.get("dropout", 0.0),
    norm_least=1,
  )
  num_codes = int(params["n_embed"])
  _check_options(sizes)
  loss = dict((params.get("lossconfig") or {}).get("params") or {})
  if "quantize.used" in tensors:
    num_codes = tensors["quantize.used"].shape[0]
  if name == "GumbelVQ":
    kl_weight = params.get("kl_weight", 1e-8)
    module = quantizer.Gumbel(
      num_codes, width, kl_weight=kl_weight, restart=False
    )
  else:
    average = name == "EMAVQ"
    module = quantizer.Nearest(
      num_codes, width, legacy=not average, average=average, restart=False
    )
  rate = config.get("base_learning_rate")
  return FirstStage(
    shape,
    module,
    target="segmentation" if name == "VQSegmentationModel" else "image",
    critic=_discriminator(tensors),
    loss=loss,
    base_learning_rate=None if rate is None else float(rate),
  )


@typed("the checkpoint")
def from_shapes(tensors: Tensors, resolution: int = 256) -> FirstStage:
  """Return the settings that the shapes of a state dict tell.

  Args:
    tensors: a state dict.
    resolution: the nominal one, which no shape tells; it matters only for
      the meaning of `Shape.attention`, not for the network.

  Raises:
    TamingError: the names are not those of a first stage.
  """
  needed = ("encoder.conv_in.weight", "encoder.conv_out.weight")
  needed += ("quant_conv.weight", "decoder.conv_out.weight")
  missing = [name for name in needed if name not in tensors]
  if missing:
    raise TamingError(f"no first stage: the file has no {', '.join(missing)}")
  channels, in_channels = tensors["encoder.conv_in.weight"].shape[:2]
  levels = _numbers(tensors, r"encoder\.down\.(\d+)\.block\.0\.")
  blocks = _numbers(tensors, r"encoder\.down\.0\.block\.(\d+)\.")
  attends = _numbers(tensors, r"encoder\.down\.(\d+)\.attn\.")
  widths = [
    tensors[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] for i in levels
  ]
  shape = autoencoder.Shape(
    channels=channels,
    multipliers=tuple(width // channels for width in widths),
    num_blocks=len(blocks),
    attention=tuple(resolution // 2**i for i in attends),
    resolution=resolution,
    in_channels=in_channels,
    z_channels=tensors["encoder.conv_out.weight"].shape[0],
    norm_least=1,
  )
  width = tensors["quant_conv.weight"].shape[0]
  if "quantize.proj.weight" in tensors:
    num_codes = tensors["quantize.proj.weight"].shape[0]
    module = quantizer.Gumbel(num_codes, width, kl_weight=1e-8, restart=False)
  else:
    name = "quantize.used" if "quantize.used" in tensors else None
    name = name or "quantize.embedding.weight"
    if name not in tensors:
      raise TamingError(f"no first stage: the file has no {name}")
    average = "quantize.embedding.cluster_size" in tensors
    module = quantizer.Nearest(
      tensors[name].shape[0],
      width,
      legacy=not average,
      average=average,
      restart=False,
    )
  # A segmentation stage has one channel per class and no such loss.
  target = "segmentation" if in_channels > 4 else "image"
  return FirstStage(shape, module, target, _discriminator(tensors))


def _discriminator(tensors):
  """Return the settings of the discriminator in a state dict, or None."""
  prefix = "loss.discriminator.main"
  indices = _numbers(tensors, rf"{re.escape(prefix)}\.(\d+)\.weight")
  if not indices:
    return None
  first = tensors[f"{prefix}.0.weight"]
  return discriminator.Discriminator(first.shape[0], (indices[-1] - 2) // 3)


def _check_options(sizes):
  """Raise for the options of their networks that no published model uses."""
  plain = {
    "double_z": False,
    "resamp_with_conv": True,
    "tanh_out": False,
    "give_pre_end": False,
    "attn_type": "vanilla",
    "use_linear_attn": False,
  }
  for name, value in plain.items():
    if sizes.get(name, value) != value:
      raise TamingError(f"ddconfig.{name} {sizes[name]}: only {value} is known")
  if sizes.get("out_ch", sizes["in_channels"]) != sizes["in_channels"]:
    raise TamingError(
      f"ddconfig.out_ch {sizes['out_ch']} must equal in_channels "
      f"{sizes['in_channels']}"
    )


def _numbers(tensors, pattern):
  found = (re.match(pattern, name) for name in tensors)
  return sorted({int(match[1]) for match in found if match})
