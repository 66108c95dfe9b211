"""The authors' second stages: Net2NetTransformer checkpoints as our priors.

A file holds the transformer and whole first stages: that of the images and,
where the condition is a map, that of the condition. The settings come from
the authors' yaml, or from the shapes as far as they tell them. The tensors are
mapped in `vqgan.taming_prior_tensors`.

Shapes: d width, v codes.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vqgan import prior, taming, taming_tensors

FIRST, CONDITION = "first_stage_model.", "cond_stage_model."
PREFIX = "transformer."
_MODELS = ("Net2NetTransformer",)
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
  return any(name.startswith(PREFIX) for name in tensors)


def first_stage(tensors: taming.Tensors) -> dict[str, np.ndarray]:
  """Return the tensors of the images' first stage."""
  return taming.part(tensors, FIRST)


def condition_stage(tensors: taming.Tensors) -> dict[str, np.ndarray]:
  """Return those of the condition's first stage, {} where there is none."""
  return taming.part(tensors, CONDITION)


@taming.typed("the configuration")
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
  sizes = params["transformer_config"]["params"]
  first = taming.from_config(params["first_stage_config"], first_stage(tensors))
  found = {
    "layers": sizes["n_layer"],
    "width": sizes["n_embd"],
    "heads": sizes["n_head"],
    "length": sizes["block_size"],
    "vocabulary": sizes["vocab_size"],
  }
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


@taming.typed("the checkpoint")
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
  needed = [f"{PREFIX}{x}" for x in ("tok_emb.weight", "pos_emb")]
  missing = [name for name in needed if name not in tensors]
  if missing:
    raise taming.TamingError(
      f"no second stage: the file has no {', '.join(missing)}"
    )
  vocabulary, width = tensors[needed[0]].shape
  blocks = re.compile(r"^transformer\.blocks\.(\d+)\.ln1\.weight$")
  first = taming.from_shapes(first_stage(tensors), resolution)
  mask = tensors.get(f"{PREFIX}blocks.0.attn.mask")
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


def _condition(params, first, tensors):
  """Return kind, condition, num_classes and levels of a yaml."""
  config = params.get("cond_stage_config")
  key = params.get("cond_stage_key", "depth")
  own = condition_stage(tensors)
  smaller = params.get("downsample_cond_size", -1)
  if smaller > -1:
    raise taming.TamingError(
      f"downsample_cond_size {smaller}: only -1 is known"
    )
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


def _class(config):
  return str(config.get("target", "")).rsplit(".", 1)[-1]
