"""Fields of a first stage's config that decide nothing where others say so.

What cannot be meant is refused. What can, such as a field that was set for
another quantizer, is remarked on: a line at the start of a run.
"""

import math
from typing import Any

import ml_collections

from launch import errors, flags

_BASE = "configs/vqgan_imagenet.py"  # whose own values nobody asked for
_LEARNED = ("nearest", "average", "unit")
_CODEBOOK = (*_LEARNED, "gumbel")
_DECAYING = ("cosine", "linear")
_WIDEST_UNIT = 32  # Yu et al. 2022, sec. 3.2, tried 32 and fewer

# Field: which other field lets it be read, with which values; None: all but 0.
_READ_WITH = {
  "quantizer.beta": ("quantizer.name", _LEARNED),
  "quantizer.legacy": ("quantizer.name", ("nearest", "unit")),
  "quantizer.decay": ("quantizer.name", ("average",)),
  "quantizer.seed_codebook": ("quantizer.name", _CODEBOOK),
  "quantizer.restart": ("quantizer.name", _CODEBOOK),
  "quantizer.kl_weight": ("quantizer.name", ("gumbel",)),
  "quantizer.temperature.start": ("quantizer.name", ("gumbel",)),
  "quantizer.temperature.end": ("quantizer.name", ("gumbel",)),
  "quantizer.temperature.steps": ("quantizer.name", ("gumbel",)),
  "quantizer.levels": ("quantizer.name", ("finite",)),
  "data.num_measured": ("quantizer.seed_codebook", None),
  "data.channels": ("data.target", ("image",)),
  "data.num_labels": ("data.target", ("segmentation",)),
  "data.label_shift": ("data.target", ("segmentation",)),
  "loss.pixel": ("data.target", ("image", "depth")),
  "loss.lpips_backbone": ("loss.perceptual", None),
  "loss.lpips_heads": ("loss.perceptual", None),
  "loss.codebook": ("quantizer.name", _CODEBOOK),
  "adversary.freeze_codebook": ("quantizer.name", _CODEBOOK),
  "adversary.lecam_decay": ("adversary.lecam", None),
  "adversary.r1_every": ("adversary.r1", None),
  "optimizer.final": ("optimizer.schedule", _DECAYING),
  "optimizer.decay_steps": ("optimizer.schedule", _DECAYING),
  "optimizer.b2": ("optimizer.name", ("adam", "adamw")),
}


def check(config: ml_collections.ConfigDict) -> None:
  """Refuses sizes of a codebook or of label maps that cannot be.

  Raises:
    CommandError: in one line.
  """
  options = config.quantizer
  finite = options.name == "finite"
  if finite:
    levels = tuple(options.levels)
    if not levels or min(levels) < 3:
      raise errors.CommandError(
        f"quantizer.levels {levels} must be numbers of at least 3"
      )
    decided = {"num_codes": math.prod(levels), "width": len(levels)}
    for name, value in decided.items():
      if options[name] not in (0, value):
        raise errors.CommandError(
          f"quantizer.{name} {options[name]} must be 0 or the {value} that "
          f"quantizer.levels {levels} make: set --config.quantizer.{name}=0"
        )
  least = {"num_codes": 1, "width": 1, "dead_after": 1}
  for name in ("dead_after",) if finite else least:
    if options[name] < 1:
      raise errors.CommandError(
        f"quantizer.{name} {options[name]} must be at least 1"
      )
  temperature = options.temperature
  if options.name == "gumbel" and not 0 < temperature.end <= temperature.start:
    raise errors.CommandError(
      f"quantizer.temperature goes from start {temperature.start} to end "
      f"{temperature.end}: both above 0, and not upwards"
    )
  if config.data.target == "segmentation" and config.data.num_labels < 1:
    raise errors.CommandError(
      f"data.num_labels {config.data.num_labels} must be at least 1: it is the "
      "number of classes of the label maps"
    )


def remarks(config: ml_collections.ConfigDict) -> list[str]:
  """Returns a line for each field that does other than it seems to.

  Nobody reads it, or it seldom does any good.
  """
  found = list(_unread(config))
  if config.quantizer.name == "unit" and config.quantizer.width > _WIDEST_UNIT:
    found.append(
      f"quantizer.width {config.quantizer.width} is wide for directions: with "
      "quantizer.name=unit about 8 use more of the codes (Yu et al. 2022)"
    )
  model, options = config.model, config.adversary
  sides = [model.resolution // 2**i for i in range(len(model.multipliers))]
  found += [
    f"model.attention {side} is at no level: they are at "
    f"{', '.join(map(str, sides))}"
    for side in model.attention
    if side not in sides
  ]
  num_steps = config.train.num_steps
  anneal = config.quantizer.temperature
  gumbel = config.quantizer.name == "gumbel"
  if gumbel and anneal.steps > 1.01 * num_steps:
    found.append(
      f"quantizer.temperature.steps {anneal.steps} is more than "
      f"train.num_steps {num_steps}: the temperature never comes near "
      f"{anneal.end} (0 takes train.num_steps)"
    )
  if options.weight and options.start >= num_steps:
    found.append(
      f"adversary.start {options.start} is not before train.num_steps "
      f"{num_steps}: this run ends before its discriminator begins "
      "(adversary.weight=0 trains without one)"
    )
  elif options.weight and options.start + options.warmup >= num_steps:
    found.append(
      f"adversary.start {options.start} and adversary.warmup "
      f"{options.warmup} leave none of train.num_steps {num_steps}: the "
      "discriminator learns, but the autoencoder never from it"
    )
  return found


def _unread(config):
  """Yields a line for each field that was set and that nobody reads."""
  fields = dict(flags.flatten(config))
  usual = [dict(flags.flatten(flags.load(_BASE + x))) for x in ("", ":tiny")]
  for name, (other, values) in _READ_WITH.items():
    if name not in fields or (
      name.startswith("adversary.") and not config.adversary.weight
    ):
      continue
    read = fields[other] if values is None else fields[other] in values
    if not read and all(_differ(fields[name], x[name]) for x in usual):
      yield (
        f"{name} {fields[name]!r} has no effect while {other} is "
        f"{fields[other]!r}"
      )


def _differ(one: Any, other: Any) -> bool:
  as_list = lambda x: list(x) if isinstance(x, tuple | list) else x
  return as_list(one) != as_list(other)
