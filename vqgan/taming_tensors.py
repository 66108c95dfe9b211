"""The authors' first stages: their names and layouts of tensors, and ours.

One function gives the authors' name of each of our parameters; import and
export both use it. What does not fit is an error that lists every name.
"""

import re
from collections.abc import Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from vqgan import codebook, quantizer, taming

# What a first stage's state dict may hold besides its parameters.
_IGNORED = re.compile(
  r"^loss\.|^model_ema\.|^colorize$|\.num_batches_tracked$"
  r"|^quantize\.(used|embedding\.(cluster_size|embed_avg))$"
)
_SHOWN = 12  # names in an error


@taming.typed("the checkpoint")
def variables(
  tensors: taming.Tensors, stage: taming.FirstStage
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Return (params, model_state) of `vqgan.task` in float32.

  params has "generator" and, where the file has one, "discriminator".

  Raises:
    TamingError: tensors are missing, unexpected or of other shapes; all are
      listed.
  """
  tensors = dict(tensors)
  if "quantize.used" in tensors:
    used = np.asarray(tensors["quantize.used"]).astype(np.int64)
    name = "quantize.embedding.weight"
    tensors[name] = np.asarray(tensors[name])[used]
  factor = stage.shape.factor
  pixels = jnp.zeros((1, factor, factor, stage.shape.in_channels))
  module = stage.module()
  shapes = jax.eval_shape(module.init, jax.random.key(0), pixels)["params"]
  gumbel = isinstance(stage.quantizer, quantizer.Gumbel)
  name = lambda path: _generator_name(path, gumbel)
  generator = _collect(tensors, shapes, name)
  params = {"generator": generator}
  codes = generator["quantizer"]
  state = {"quantizer": codebook.initial_state(stage.quantizer, codes)}
  if stage.quantizer.average and "quantize.embedding.embed_avg" in tensors:
    for ours, theirs in (("counts", "cluster_size"), ("sums", "embed_avg")):
      state["quantizer"][ours] = np.asarray(
        tensors[f"quantize.embedding.{theirs}"], np.float32
      )
  critic = stage.critic
  if critic is not None:
    pixels = jnp.zeros((1, 64, 64, stage.shape.in_channels))
    shapes = jax.eval_shape(critic.init, jax.random.key(0), pixels)
    name = lambda path: _discriminator_name(path[1:], critic.num_layers)
    found = taming.part(tensors, "loss.discriminator.")
    found = _collect(found, shapes, name)
    params["discriminator"] = found["params"]
    state["discriminator"] = found["batch_stats"]
  return params, state


def export(generator: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Return an autoencoder's parameters by the authors' names and layouts."""
  gumbel = "logits" in generator.get("quantizer", {})
  return {
    _generator_name(path, gumbel): _to_theirs(path, np.asarray(leaf))
    for path, leaf in flax.traverse_util.flatten_dict(generator).items()
  }


def check_names(
  missing: list[str], unexpected: list[str], misshaped: list[str]
) -> None:
  """Raise TamingError with all names that do not fit, if there are any."""
  problems = {
    "missing": missing,
    "unexpected": unexpected,
    "mis-shaped": misshaped,
  }
  if any(problems.values()):
    raise taming.TamingError(
      "the checkpoint does not fit its configuration: "
      + "; ".join(f"{k}: {listed(v)}" for k, v in problems.items() if v)
    )


def listed(names: list[str]) -> str:
  """Return the first names in order, and how many more there are."""
  more = len(names) - _SHOWN
  text = ", ".join(sorted(names)[:_SHOWN])
  return f"{text} and {more} more" if more > 0 else text


def _collect(tensors, shapes, name_of):
  """Fill a tree of shapes with tensors; all that does not fit is listed."""
  tree, expected, missing, misshaped = {}, set(), [], []
  for path, leaf in flax.traverse_util.flatten_dict(shapes).items():
    name = name_of(path)
    expected.add(name)
    if name not in tensors:
      missing.append(name)
      continue
    array = _to_ours(path, np.asarray(tensors[name], np.float32), leaf.ndim)
    if array.shape != leaf.shape:
      needed = _to_theirs(path, np.zeros(leaf.shape, np.bool_)).shape
      misshaped.append(f"{name} {tensors[name].shape} (needs {needed})")
    tree[path] = array
  unexpected = [
    name
    for name in tensors
    if name not in expected and not _IGNORED.search(name)
  ]
  check_names(missing, unexpected, misshaped)
  return flax.traverse_util.unflatten_dict(tree)


_BLOCKS = (
  (r"^(down|up)_(\d+)_block_(\d+)$", r"\1.\2.block.\3"),
  (r"^(down|up)_(\d+)_attention_(\d+)$", r"\1.\2.attn.\3"),
  (r"^(down|up)_(\d+)_(downsample|upsample)$", r"\1.\2.\3.conv"),
  (r"^mid_attention$", "mid.attn_1"),
  (r"^mid_block_(\d)$", r"mid.block_\1"),
)
_NAMES = {
  "norm_1": "norm1",
  "norm_2": "norm2",
  "conv_1": "conv1",
  "conv_2": "conv2",
  "skip": "nin_shortcut",
  "query": "q",
  "key": "k",
  "value": "v",
  "out": "proj_out",
  "before": "quant_conv",
  "after": "post_quant_conv",
  "kernel": "weight",
  "scale": "weight",
}


def _generator_name(path, gumbel):
  """Return the authors' name of one of the autoencoder's parameters."""
  if path == ("quantizer", "codebook"):
    return f"quantize.{'embed' if gumbel else 'embedding'}.weight"
  if path[:2] == ("quantizer", "logits"):
    return f"quantize.proj.{_NAMES.get(path[2], path[2])}"
  names = []
  for name in path:
    for pattern, theirs in _BLOCKS:
      name = re.sub(pattern, theirs, name)
    names.append(_NAMES.get(name, name))
  return ".".join(names)


def _discriminator_name(path, num_layers):
  """Return the name of a discriminator's leaf, such as "main.3.weight"."""
  layer, leaf = path
  kind, _, i = layer.partition("_")
  if kind == "logits":
    index = 3 * num_layers + 2
  elif kind == "conv":
    index = max(3 * int(i) - 1, 0)
  else:
    index = 3 * int(i)
  leaf = {
    "kernel": "weight",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
  }.get(leaf, leaf)
  return f"main.{index}.{leaf}"


def _to_ours(path, array, ndim):
  if path[-1] == "kernel" and array.ndim == 4:
    array = array.transpose(2, 3, 1, 0)  # [h, w, c, c']
    if ndim == 2 and array.shape[:2] == (1, 1):
      array = array[0, 0]
  return array


def _to_theirs(path, array):
  if path[-1] != "kernel":
    return array
  if array.ndim == 2:
    array = array[None, None]
  return array.transpose(3, 2, 0, 1)  # [c', c, h, w]
