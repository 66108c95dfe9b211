"""Priors over codes: config sections to model, condition, task and encoders.

Fields of `config.model` that 0 or -1 leaves to others: `length` 0 is as long
as the sequence, `num_classes` -1 the number of classes of the dataset.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from data import source as source_lib
from launch import classes, errors, flags
from launch import request as request_lib
from launch.adapters import codes, optimizers, precision, prior_sampling
from training import optimizer, sharding
from vqgan import frame as frame_lib
from vqgan import pixelsnail, prior, prior_task, tokenizer
from vqgan.conditions import kinds, maps, objects

LIKELIHOOD = {"codes": ("bits_codes",)}
RULE = sharding.FsdpRule()
MODELS = ("transformer", "pixelsnail")
KINDS = ("none", "coordinates", "boxes", "completion", *maps.MAPS)
ENTERS = ("prefix", "beside", "both")

SAMPLING = (
  "labels",
  "top_k",
  "top_p",
  "guidance",
  "size",
  "complete",
  "condition",
  "score",
  "acceptance",
)
check = codes.check
remarks = codes.remarks
rates_an_image = optimizers.rates_an_image

# Options of the Transformer that a PixelSNAIL has no part for, switched off.
_TRANSFORMER_ONLY = {
  "order": "row",
  "length": 0,
  "classes": "both",
  "shared": False,
  "n_unmasked": 0,
  "attention": "xla",
}
_STAGE = "condition"


def make_condition(
  config: ml_collections.ConfigDict,
  measured: Mapping[str, np.ndarray],
  coder: tokenizer.Tokenizer,
) -> kinds.Condition:
  """Makes the condition.

  Raises:
    ValueError: an unknown kind, or numbers that do not fit the data.
  """
  options, size = config.condition, tuple(config.data.size)
  kind = options.kind
  if kind not in KINDS:
    raise errors.CommandError(
      f"no condition.kind {kind!r}{flags.did_you_mean(kind, KINDS)}"
    )
  if kind == "none":
    return kinds.Nothing()
  if kind == "coordinates":
    return kinds.Places(coder.grid, coder.factor, options.levels)
  if kind == "completion":
    return kinds.Known(coder.grid, coder.num_codes)
  if kind == "boxes":
    return kinds.Scene(
      objects.Layout(
        num_tokens=options.vocabulary,
        num_classes=options.num_labels,
        points=options.points,
        crop=options.crop,
        most=options.most,
        flags=tuple(filter(None, options.get("flags", "").split(","))),
        least=options.get("least", 0),
        min_area=options.get("min_area", objects.MIN_AREA),
      ),
      size,
    )
  stage = None
  if _has_stage(config):
    stage = codes.make_tokenizer(_as_stage(config), _renamed(measured))
  return maps.Map(
    kind=kind,
    size=size,
    grid=tuple(options.grid) if stage is None else stage.grid,
    num_labels=options.num_labels,
    label_shift=options.label_shift,
    levels=options.levels,
    skeleton=options.skeleton,
    stage=stage,
    shrink=options.shrink,
  )


def make_model(
  config: ml_collections.ConfigDict,
  measured: Mapping[str, np.ndarray],
  coder: tokenizer.Tokenizer,
  condition: kinds.Condition,
) -> Any:
  """Makes the network."""
  options = config.model
  if options.name not in MODELS:
    raise errors.CommandError(
      f"no model.name {options.name!r}"
      f"{flags.did_you_mean(options.name, MODELS)}"
    )
  num_classes = options.num_classes
  if num_classes < 0:
    num_classes = int(measured["num_classes"])
  beside = _beside(config, coder, condition)
  if options.name == "pixelsnail":
    for name, off in _TRANSFORMER_ONLY.items():
      if options[name] != off:
        raise ValueError(
          f"model.{name} {options[name]!r} must be {off!r} for a PixelSNAIL"
        )
    return pixelsnail.PixelSNAIL(
      num_codes=coder.num_codes,
      grid=coder.grid,
      blocks=options.layers,
      residuals=options.residuals,
      width=options.width,
      heads=options.heads,
      key_width=options.key_width,
      class_scale=options.class_scale,
      num_conditions=condition.vocabulary,
      num_classes=num_classes,
      beside=beside,
      prefixed=config.condition.get("enters") != "beside",
      dropout=options.dropout,
      remat=config.train.remat,
      dtype=precision.dtype(config.train.dtype),
    )
  model = prior.Prior(
    num_codes=coder.num_codes,
    length=1,
    layers=options.layers,
    width=options.width,
    heads=options.heads,
    num_conditions=condition.vocabulary,
    num_classes=num_classes,
    classes=options.classes,
    shared=options.shared,
    n_unmasked=options.n_unmasked,
    dropout=options.dropout,
    class_scale=options.class_scale,
    beside=beside,
    prefixed=config.condition.get("enters") != "beside",
    remat=config.train.remat,
    dtype=precision.dtype(config.train.dtype),
    implementation=options.attention,
  )
  num_codes = coder.grid[0] * coder.grid[1]
  needed = model.prefix_length(condition.length) + num_codes - 1
  return model.clone(length=options.length or needed)


def make_task(
  config: ml_collections.ConfigDict, measured: Mapping[str, np.ndarray]
) -> prior_task.PriorTask:
  """Makes the task."""
  coder = codes.make_tokenizer(config, measured)
  condition = make_condition(config, measured, coder)
  return prior_task.PriorTask(
    model=make_model(config, measured, coder, condition),
    tokenizer=coder,
    condition=condition,
    tx=optimizers.make(config, decay_mask=optimizer.kernels),
    order=config.model.order,
    ema_decay=config.optimizer.ema_decay or None,
    accumulate=config.train.accumulate,
    class_drop=config.model.class_drop,
    pkeep=config.model.pkeep,
    from_codes=config.data.source == "codes",
  )


def make_encode(
  config: ml_collections.ConfigDict,
  measured: Mapping[str, np.ndarray],
  use: str,
) -> Callable:
  """Makes the encode function of TensorFlow."""
  return codes.make_encode(
    config, measured, use, *_along(config, measured, use)
  )


def make_array_encode(
  config: ml_collections.ConfigDict,
  measured: Mapping[str, np.ndarray],
  use: str,
) -> Callable:
  """Makes the encode function of NumPy."""
  along = _along(config, measured, use)
  return codes.make_array_encode(config, measured, use, *along)


def rows_per_example(config: ml_collections.ConfigDict) -> int:
  """Returns 1: an image is a row."""
  del config
  return 1


def measure(
  config: ml_collections.ConfigDict, batches: Iterable[Mapping]
) -> dict[str, np.ndarray]:
  """Loads the first stages: of the images, and of the condition."""
  measured = codes.measure(config, batches)
  if _has_stage(config):
    measured |= _named(codes.measure(_as_stage(config)))
  return measured


def check_source(
  config: ml_collections.ConfigDict, source: source_lib.Source
) -> None:
  """Refuses other classes, and codes without what the condition needs.

  Raises:
    ValueError: in one line, with the remedy.
  """
  classes.check(config, source)
  if not source_lib.has_pictures(source):
    needed = fields(config, {}, "train")
    frame_lib.check_fields(needed, source.fields, pictures=False)


def assumed(config: ml_collections.ConfigDict) -> dict[str, np.ndarray]:
  """Returns blank first stages, and a dataset without classes."""
  measured = codes.assumed(config)
  if _has_stage(config):
    measured |= _named(codes.assumed(_as_stage(config)))
  return {**measured, "num_classes": np.int32(0)}


def make_sampler(
  config: ml_collections.ConfigDict,
  task: prior_task.PriorTask,
  measured: Mapping[str, np.ndarray],
  key: jax.Array,
) -> prior_sampling.Sampler:
  """Makes the sampler of a run's own pictures: labels or records in turn."""
  asked = request_lib.from_config(config)
  return make_requested_sampler(config, task, measured, key, asked)


def make_requested_sampler(
  config: ml_collections.ConfigDict,
  task: prior_task.PriorTask,
  measured: Mapping[str, np.ndarray],
  key: jax.Array,
  request: request_lib.Request,
) -> prior_sampling.Sampler:
  """Makes a sampler on request; see `prior_sampling.make_sampler`."""

  def resize(size):
    if size == tuple(config.data.size):
      return task, make_array_encode(config, measured, "eval")
    larger = config.copy_and_resolve_references()
    scale = [new / old for new, old in zip(size, config.data.size)]
    with larger.unlocked():
      larger.data.size = size
      larger.condition.grid = tuple(
        round(side * ratio) for side, ratio in zip(config.condition.grid, scale)
      )
    made = dataclasses.replace(make_task(larger, measured), model=task.model)
    return made, make_array_encode(larger, measured, "eval")

  return prior_sampling.make_sampler(config, task, key, request, resize)


def fields(
  config: ml_collections.ConfigDict,
  measured: Mapping[str, np.ndarray],
  use: str,
) -> tuple[str, ...]:
  """Returns what has to come along with the pictures or codes."""
  return _along(config, measured, use)[0]


def _along(config, measured, use) -> tuple[tuple[str, ...], frame_lib.Classes]:
  """Returns `fields`, and which classes the label maps among them may hold."""
  if use not in ("train", "eval"):
    return (), frame_lib.ANY
  coder = codes.make_tokenizer(config, measured)
  condition = make_condition(config, measured, coder)
  wanted = condition.fields
  with_boxes = ("box_labels", "crop") if "boxes" in wanted else ()
  found = tuple(name for name in wanted if name not in with_boxes)
  has_maps = isinstance(condition, maps.Map)
  return found, condition.classes if has_maps else frame_lib.ANY


def _beside(config, coder, condition) -> tuple[int, ...]:
  """Returns which token is added beside each code; () where none is."""
  enters = config.condition.get("enters", "prefix")
  if enters not in ENTERS:
    raise errors.CommandError(
      f"no condition.enters {enters!r}{flags.did_you_mean(enters, ENTERS)}"
    )
  if enters == "prefix":
    return ()
  return kinds.beside(condition, coder.grid, config.model.order)


def _has_stage(config) -> bool:
  """Whether a first stage reads the condition, instead of a pool."""
  return bool(config.condition.stage.like.task)


def _as_stage(config) -> ml_collections.ConfigDict:
  """Returns a config whose tokenizer is the condition's first stage."""
  data = config.data.copy_and_resolve_references()
  with data.unlocked():
    data.source = ""  # these codes are made on the spot
  return ml_collections.ConfigDict(
    {"tokenizer": config.condition.stage, "data": data, "seed": config.seed}
  )


def _named(measured) -> dict[str, np.ndarray]:
  """Renames what was measured of a tokenizer to the condition's."""
  return {
    name.replace("tokenizer", _STAGE, 1): x for name, x in measured.items()
  }


def _renamed(measured) -> dict[str, np.ndarray]:
  """Undoes `_named`."""
  return {
    name.replace(_STAGE, "tokenizer", 1): x
    for name, x in measured.items()
    if name.startswith(_STAGE)
  }
