"""The optimiser that a config's `optimizer` section asks for."""

import math
from typing import Any

import ml_collections
import optax

from training import optimizer

# Learning rates an image of the global batch: Esser et al. 2021, McKinney &
# Willcocks 2022.
_RATES = (4.5e-6, 5e-6)


def make(
  config: ml_collections.ConfigDict, **changes: Any
) -> optax.GradientTransformation:
  """Makes the optimiser of a run of `train.num_steps` steps.

  Args:
    config: of the run.
    **changes: arguments of `optimizer.make` that differ from the section's:
      another player's rate, or which parameters decay.

  Raises:
    ValueError: the warm-up is not over before the run is, or see
      `optimizer.make`.
  """
  options = config.optimizer
  decays = options.schedule in ("cosine", "linear")
  if decays and options.warmup_steps >= config.train.num_steps:
    raise ValueError(
      f"train.num_steps {config.train.num_steps} must exceed "
      f"optimizer.warmup_steps {options.warmup_steps}"
    )
  fields = {
    "name": options.name,
    "peak": options.peak,
    "warmup_steps": options.warmup_steps,
    "total_steps": config.train.num_steps,
    "schedule": options.schedule,
    "final": options.get("final", 0.0),
    "b1": options.b1,
    "b2": options.b2,
    "weight_decay": options.weight_decay,
    "clip_norm": options.clip_norm,
  }
  return optimizer.make(**(fields | changes))


def rates_an_image(config: ml_collections.ConfigDict) -> list[str]:
  """Returns the rates that are the authors' an image times the global batch.

  Of all players. They scale with the batch; those that somebody chose otherwise
  are left alone.
  """
  players = ["optimizer"]
  if config.get("adversary", {}).get("weight"):
    players.append("adversary")
  size = config.train.batch_size
  return [
    f"{name}.peak"
    for name in players
    if any(math.isclose(config[name].peak, x * size) for x in _RATES)
  ]
