"""The authors' second stages: Net2NetTransformer checkpoints as our priors.

A file holds the transformer and whole first stages: that of the images and,
where the condition is a map, that of the condition. The settings come from
the authors' yaml, or from the shapes as far as they tell them.

Shapes: s slots, d width, v codes.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from vqgan import orders, prior, taming, taming_tensors

_FIRST, _CONDITION = "first_stage_model.", "cond_stage_model."
_PREFIX = "transformer."
_MODELS = ("Net2NetTransformer",)
_IGNORED = re.compile(
  r"^loss\.|^be_unconditional$|^colorize$|\.num_batches_tracked$"
)
# What the conditions of the authors' yaml are called here.
_MAPS = {
  "segmentation": "segmentation",
  "depth": "depth",
  "edge": "edges",
  "canny": "edges",
  "LR_image": "lowres",
  "stickman": "keypoints",
}
_BOXES = {"objects_bbox": "boxes", "objects_center_points": "points"}
_ORDERS = {
  "Identity": "row",
  "Subsample": "subsample",
  "ZCurve": "z_curve",
  "SpiralOut": "spiral_out",
  "SpiralIn": "spiral_in",
  "Random": "random",
  "AlternateParsing": "alternate",
}


@dataclasses.dataclass(frozen=True)
class SecondStage:
  """A second stage of the authors as ours.

  Attributes:
    first: the first stage of the images.
    kind: "none", "class", "coordinates", "boxes", "points", or what the map
      is: "segmentation", "depth", "edges", "lowres", "keypoints", "codes".
    condition: the first stage of a map, which may be `first` itself.
    layers: of the transformer.
    width: d.
    heads: attention heads.
    length: of the positions.
    vocabulary: of their one table and of their head.
    n_unmasked: slots that see each other in both directions.
    dropout: the largest of their three rates.
    num_classes: of a class label.
    levels: of the coordinates.
    order: of the codes, see `orders`.
    pkeep: chance that an input code is kept in training.
    base_learning_rate: per image of the global batch, or None.
  """

  first: taming.FirstStage
  kind: str
  condition: taming.FirstStage | None
  layers: int
  width: int
  heads: int
  length: int
  vocabulary: int
  n_unmasked: int = 0
  dropout: float = 0.0
  num_classes: int = 0
  levels: int = 0
  order: str = "row"
  pkeep: float = 1.0
  base_learning_rate: float | None = None

  @property
  def num_codes(self) -> int:
    """The codes of an image that can be drawn, v."""
    return self.first.quantizer.num_codes

  def module(self) -> prior.Prior:
    """Return the prior."""
    conditions = {
      "coordinates": self.levels + 1,
      "boxes": self.vocabulary,
      "points": self.vocabulary,
    }.get(self.kind, 0)
    if self.condition is not None:
      conditions = self.condition.quantizer.num_codes
    return prior.Prior(
      num_codes=self.num_codes,
      length=self.length,
      layers=self.layers,
      width=self.width,
      heads=self.heads,
      num_conditions=conditions,
      num_classes=self.num_classes,
      classes="token",
      shared=True,
      n_unmasked=self.n_unmasked,
      dropout=self.dropout,
    )

  def learning_rate(self, batch_size: int) -> float:
    """Return the rate the authors train with at a global batch."""
    base = self.base_learning_rate
    return (4.5e-6 if base is None else base) * batch_size


def is_second_stage(tensors: taming.Tensors) -> bool:
  """Return whether a state dict holds a transformer."""
  return any(name.startswith(_PREFIX) for name in tensors)


def first_stage(tensors: taming.Tensors) -> dict[str, np.ndarray]:
  """Return the tensors of the images' first stage."""
  return taming.part(tensors, _FIRST)


def condition_stage(tensors: taming.Tensors) -> dict[str, np.ndarray]:
  """Return those of the condition's first stage, {} where there is none."""
  return taming.part(tensors, _CONDITION)


def from_config(
  config: Mapping[str, Any], tensors: taming.Tensors
) -> SecondStage:
  """Return the settings that a yaml's `model` entry describes.

  Args:
    config: `target` and `params` of `taming.models.cond_transformer.*`.
    tensors: the state dict.

  Raises:
    TamingError: another class, or an option that we do not have.
  """
  name = _class(config)
  if name not in _MODELS:
    raise taming.TamingError(
      f'target "{config.get("target")}" is no second stage: known are '
      f"{', '.join(_MODELS)}"
    )
  params = config.get("params", {})
  try:
    sizes = params["transformer_config"]["params"]
    first = taming.from_config(
      params["first_stage_config"], first_stage(tensors)
    )
    found = {
      "layers": sizes["n_layer"],
      "width": sizes["n_embd"],
      "heads": sizes["n_head"],
      "length": sizes["block_size"],
      "vocabulary": sizes["vocab_size"],
    }
  except (KeyError, TypeError) as error:
    raise taming.TamingError(f"the configuration has no {error}") from error
  rate = config.get("base_learning_rate")
  rates = (sizes.get(f"{x}_pdrop", 0.0) for x in ("embd", "resid", "attn"))
  return SecondStage(
    first=first,
    **found,
    **_condition(params, first, tensors),
    n_unmasked=sizes.get("n_unmasked", 0),
    dropout=max(rates),
    order=_order(params.get("permuter_config")),
    pkeep=params.get("pkeep", 1.0),
    base_learning_rate=None if rate is None else float(rate),
  )


def from_shapes(
  tensors: taming.Tensors,
  heads: int = 0,
  num_classes: int = 0,
  resolution: int = 256,
) -> SecondStage:
  """Return the settings that the shapes of a state dict tell.

  Args:
    tensors: a state dict.
    heads: of the attention, which no shape tells: 0 takes what the authors'
      models have, 24 at width 1536 and 16 at others.
    num_classes: of the label, which no shape tells either.
    resolution: of the images, see `taming.from_shapes`.

  Raises:
    TamingError: the names are not those of a second stage.
  """
  needed = [f"{_PREFIX}{x}" for x in ("tok_emb.weight", "pos_emb")]
  missing = [name for name in needed if name not in tensors]
  if missing:
    raise taming.TamingError(
      f"no second stage: the file has no {', '.join(missing)}"
    )
  vocabulary, width = tensors[needed[0]].shape
  blocks = re.compile(r"^transformer\.blocks\.(\d+)\.ln1\.weight$")
  first = taming.from_shapes(first_stage(tensors), resolution)
  mask = tensors.get(f"{_PREFIX}blocks.0.attn.mask")
  n_unmasked = 0 if mask is None else int(np.asarray(mask)[0, 0, 0].sum())
  kind, stage, condition = "none", None, condition_stage(tensors)
  if num_classes:
    kind = "class"
  elif condition:
    stage = taming.from_shapes(condition, resolution)
    seen = {1: "depth"}.get(stage.shape.in_channels, "codes")
    kind = "segmentation" if stage.target == "segmentation" else seen
  elif n_unmasked > 1:
    kind = "coordinates"
  return SecondStage(
    first=first,
    kind=kind,
    condition=stage,
    layers=sum(bool(blocks.match(name)) for name in tensors),
    width=width,
    heads=heads or (24 if width == 1536 else 16),
    length=tensors[needed[1]].shape[1],
    vocabulary=vocabulary,
    n_unmasked=n_unmasked if n_unmasked > 1 else 0,
    num_classes=num_classes,
    levels=vocabulary if kind == "coordinates" else 0,
  )


def variables(
  tensors: taming.Tensors, stage: SecondStage
) -> dict[str, dict[str, Any]]:
  """Return the parameters of `stage.module()`, float32.

  Rows of their table and head that no code and no condition of ours reaches
  are left out; rows that they lack (a null class) are the mean of the others.

  Raises:
    TamingError: tensors are missing, unexpected or of other shapes, or masks
      or orders are not as the settings say; all names are listed.
  """
  _check_buffers(tensors, stage)
  module = stage.module()
  condition = jnp.zeros((1, 1), jnp.int32) if module.num_conditions else None
  if stage.n_unmasked:
    condition = jnp.zeros((1, stage.n_unmasked), jnp.int32)
  label = jnp.zeros(1, jnp.int32) if stage.num_classes else None
  shapes = jax.eval_shape(
    module.init,
    jax.random.key(0),
    jnp.zeros((1, 2), jnp.int32),
    condition,
    label,
  )["params"]
  tree, missing, misshaped, expected = {}, [], [], set()
  for path, leaf in flax.traverse_util.flatten_dict(shapes).items():
    names = _names(path, stage.layers)
    expected.update(names)
    gone = [name for name in names if name not in tensors]
    missing += gone
    if gone:
      continue
    needed = _their_shape(path, leaf.shape, stage)
    wrong = [name for name in names if tensors[name].shape != needed]
    misshaped += [f"{x} {tensors[x].shape} (needs {needed})" for x in wrong]
    if wrong:
      continue
    tree[path] = _to_ours(path, [tensors[name] for name in names], leaf.shape)
  unexpected = [
    name
    for name in tensors
    if name not in expected
    and not name.startswith((_FIRST, _CONDITION, "permuter."))
    and not name.endswith(".attn.mask")
    and not _IGNORED.search(name)
  ]
  taming_tensors.check_names(missing, unexpected, misshaped)
  return {"params": flax.traverse_util.unflatten_dict(tree)}


def export(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Return a prior's parameters by the authors' names and layouts.

  Raises:
    TamingError: the prior has what theirs have not: classes that are added,
      or several tables.
  """
  found = {}
  for path, leaf in flax.traverse_util.flatten_dict(params["params"]).items():
    array = np.asarray(leaf)
    names = _names(path, array.shape[0])
    if not names:
      raise taming.TamingError(
        f"{'/'.join(path)} has no place in the authors' transformer: they "
        "have one shared table and class tokens"
      )
    if path[0] == "stack":
      layers = array.swapaxes(-1, -2) if path[-1] == "kernel" else array
    else:
      layers = [array.T if path[-1] == "kernel" else array]
    if path[0] == "positions":
      layers = [array[None]]
    found.update(zip(names, map(np.ascontiguousarray, layers)))
  return found


def _condition(params, first, tensors):
  """Return kind, condition, num_classes and levels of a yaml."""
  config = params.get("cond_stage_config")
  key = params.get("cond_stage_key", "depth")
  own = condition_stage(tensors)
  if config in ("__is_unconditional__", None):
    return {"kind": "none", "condition": None}
  if config == "__is_first_stage__":
    _check_copies(first_stage(tensors), own)
    return {"kind": _MAPS.get(key, "codes"), "condition": first}
  name, options = _class(config), config.get("params") or {}
  if name == "SOSProvider":
    if options.get("sos_token", 0):
      raise taming.TamingError(
        f"sos_token {options['sos_token']}: only 0 is known"
      )
    return {"kind": "none", "condition": None}
  if name == "Labelator":
    classes = options.get("n_classes")
    return {"kind": "class", "condition": None, "num_classes": int(classes)}
  if name == "CoordStage":
    levels = int(options["n_embed"])
    return {"kind": "coordinates", "condition": None, "levels": levels}
  if key in _BOXES:
    return {"kind": _BOXES[key], "condition": None}
  stage = taming.from_config(config, own)
  kind = _MAPS.get(key, "codes")
  return {"kind": kind, "condition": stage}


def _check_copies(first, own):
  """The condition's copy of the first stage must not differ from it."""
  differ = [
    name
    for name, tensor in own.items()
    if not name.startswith("loss.")
    and not np.array_equal(tensor, first.get(name))
  ]
  if differ:
    raise taming.TamingError(
      "the condition is said to be the first stage but differs in: "
      + taming_tensors.listed(differ)
    )


def _order(config):
  if not config:
    return "row"
  name = _class(config)
  if name not in _ORDERS:
    raise taming.TamingError(f"permuter {name}: known are {', '.join(_ORDERS)}")
  return _ORDERS[name]


def _check_buffers(tensors, stage):
  """Masks and permutations are no parameters, but they say what was trained."""
  causal = np.tril(np.ones((stage.length, stage.length), bool))
  causal[: stage.n_unmasked, : stage.n_unmasked] = True
  for name in tensors:
    if not name.endswith(".attn.mask"):
      continue
    mask = np.asarray(tensors[name])[0, 0] != 0
    if mask.shape != causal.shape or (mask != causal).any():
      raise taming.TamingError(
        f"{name} is not the mask of {stage.length} slots with n_unmasked "
        f"{stage.n_unmasked}: the yaml is of another checkpoint"
      )
  shuffled = tensors.get("permuter.forward_shuffle_idx")
  if shuffled is not None:
    side = round(shuffled.size**0.5)
    expected = orders.order(stage.order, side, shuffled.size // side)
    if not np.array_equal(expected, shuffled):
      raise taming.TamingError(
        f"permuter.forward_shuffle_idx is not the order {stage.order}"
      )


_PLAIN = {
  ("code_table", "embedding"): "tok_emb.weight",
  ("positions", "table"): "pos_emb",
  ("norm", "scale"): "ln_f.weight",
  ("norm", "bias"): "ln_f.bias",
  ("head", "kernel"): "head.weight",
}
_LAYERS = {
  ("attend_self", "norm"): "ln1",
  ("attend_self", "layer", "query"): "attn.query",
  ("attend_self", "layer", "key"): "attn.key",
  ("attend_self", "layer", "value"): "attn.value",
  ("attend_self", "layer", "out"): "attn.proj",
  ("feed_forwards_0", "norm"): "ln2",
  ("feed_forwards_0", "layer", "wide"): "mlp.0",
  ("feed_forwards_0", "layer", "narrow"): "mlp.2",
}


def _names(path, layers):
  """Return the authors' names of one of our leaves, one a layer."""
  if path in _PLAIN:
    return [_PREFIX + _PLAIN[path]]
  inner = _LAYERS.get(path[2:-1])
  leaf = "bias" if path[-1] == "bias" else "weight"
  if path[0] != "stack" or inner is None:
    return []
  return [f"{_PREFIX}blocks.{i}.{inner}.{leaf}" for i in range(layers)]


def _their_shape(path, shape, stage):
  """Return the shape of each of the authors' tensors of one of our leaves."""
  if path[0] in ("code_table", "head"):
    return (stage.vocabulary, stage.width)
  if path[0] == "positions":
    return (1, *shape)
  shape = shape[1:] if path[0] == "stack" else shape
  return tuple(reversed(shape)) if path[-1] == "kernel" else tuple(shape)


def _to_ours(path, arrays, shape):
  """Stack the layers of their arrays, in our layout."""
  if path[0] in ("code_table", "head"):
    array = np.asarray(arrays[0], np.float32)
    rows = shape[0] if path[0] == "code_table" else shape[1]
    lacking = max(rows - len(array), 0)
    mean = array.mean(0, keepdims=True).repeat(lacking, 0)
    array = np.concatenate([array, mean])[:rows]
    return array if path[0] == "code_table" else array.T
  kernel = path[-1] == "kernel"
  layers = (np.asarray(x, np.float32) for x in arrays)
  layers = [x.T if kernel else x for x in layers]
  if path[0] == "stack":
    return np.stack(layers)
  return layers[0].reshape(shape)


def _class(config):
  return str(config.get("target", "")).rsplit(".", 1)[-1]
