"""What the plain numbers of a config may be, whatever the model.

A field that a family does not have is not looked for.
"""

import math
from typing import Any

import ml_collections

from launch import errors, flags

_AT_LEAST = {
  "data.num_measured": 1,
  "train.num_steps": 1,
  "train.batch_size": 1,
  "train.accumulate": 1,
  "train.log_every": 1,
  "train.checkpoint_every": 1,
  "train.keep": 2,  # one damaged checkpoint loses nothing
  "train.chunks_per_image": 1,
  "train.unrolls": 1,
  "eval.every": 0,
  "eval.batch_size": 1,
  "eval.num_examples": 1,
  "eval.scores.every": 0,
  "sample.every": 0,
  "sample.num": 1,
  "sample.batch": 1,
  "model.num_classes": -1,
  "model.channels": 1,
  "model.num_blocks": 0,
  "model.norm_groups": 1,
  "model.norm_least": 1,
  "quantizer.beta": 0,
  "quantizer.kl_weight": 0,
  "quantizer.temperature.steps": 0,
  "loss.perceptual": 0,
  "loss.codebook": 0,
  "optimizer.peak": 0,
  "optimizer.warmup_steps": 0,
  "optimizer.decay_steps": 0,
  "optimizer.final": 0,
  "optimizer.weight_decay": 0,
  "optimizer.clip_norm": 0,
  "adversary.channels": 1,
  "adversary.num_layers": 1,
  "adversary.peak": 0,
  "adversary.warmup_steps": 0,
}
# What nothing reads while another field is 0.
_UNREAD_WITHOUT = {
  "eval.num_examples": "eval.every",
  "sample.num": "sample.every",
  "adversary.channels": "adversary.weight",
  "adversary.num_layers": "adversary.weight",
}
# Shares of a whole, which these may not or may be.
_BELOW_ONE = (
  "model.dropout",
  "optimizer.b1",
  "optimizer.b2",
  "optimizer.ema_decay",
  "quantizer.decay",
)
_UP_TO_ONE = ("model.class_drop", "model.pkeep")


def check(config: ml_collections.ConfigDict) -> None:
  """Refuses numbers that no run can have.

  Raises:
    CommandError: in one line, with the field, its value and its range.
  """
  fields = dict(flags.flatten(config))
  for name, least in _AT_LEAST.items():
    _check(fields, name, f"at least {least}", lambda x, low=least: x >= low)
  for name in _BELOW_ONE:
    _check(fields, name, "in [0, 1)", lambda x: 0 <= x < 1)
  for name in _UP_TO_ONE:
    _check(fields, name, "in [0, 1]", lambda x: 0 <= x <= 1)


def _check(fields: dict[str, Any], name: str, rule: str, holds) -> None:
  value, switch = fields.get(name), _UNREAD_WITHOUT.get(name)
  if value is None or (switch and not fields.get(switch)):
    return
  number = isinstance(value, int | float) and math.isfinite(value)
  if not number or not holds(value):
    raise errors.CommandError(f"{name} {value} must be {rule}")
