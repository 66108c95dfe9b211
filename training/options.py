"""Values that go into the loop and come out of it."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from training import state as state_lib

ON_NAN = ("stop", "skip", "rollback")


class Result(Protocol):
  """What an evaluator returns.

  Where it has `failed`, bool, it has nothing to record and is not done: a
  restart at this step tries it again.
  """

  scalars: Mapping[str, float]
  images: Mapping[str, np.ndarray]  # uint8 [h, w, 3]


class Evaluator(Protocol):
  """Runs every `every` steps and at the end; 0 never runs."""

  name: str
  every: int

  def run(self, state: state_lib.State, step: int) -> Result:
    """Evaluate; must not keep or donate the state."""
    ...


@dataclasses.dataclass(frozen=True)
class Options:
  """Plain values of a run.

  Attributes:
    num_steps: length of the run.
    batch_size: global; for rates only.
    log_every: steps between lines of metrics.
    checkpoint_every: steps between checkpoints.
    keep: checkpoints to keep, at least two.
    best: a scalar of the evaluators; the checkpoint with the lowest is kept,
      too. Empty keeps the newest ones only.
    on_nan: stop | skip (leave the update out, on the device) | rollback
      (return to the last checkpoint and leave out the updates that led here).
    seed: of the initial parameters and of every step.
    main_metric: shown beside the step.
    stop_at: a step to save and stop at before the end, as a signal would;
      0 goes to the end. What a run computes does not depend on it.
  """

  num_steps: int
  batch_size: int
  log_every: int = 50
  checkpoint_every: int = 1000
  keep: int = 3
  best: str = ""
  on_nan: str = "stop"
  seed: int = 0
  main_metric: str = "train/loss"
  stop_at: int = 0

  def __post_init__(self):
    """Check the values."""
    for name in ("num_steps", "batch_size", "log_every", "checkpoint_every"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name} {getattr(self, name)} must be positive")
    if self.stop_at < 0:
      raise ValueError(f"stop_at {self.stop_at} must not be negative")
    if self.on_nan not in ON_NAN:
      raise ValueError(
        f"unknown on_nan {self.on_nan!r}: choose one of {', '.join(ON_NAN)}"
      )

  @property
  def last_step(self) -> int:
    """The step that this start of the run goes to."""
    return min(self.stop_at or self.num_steps, self.num_steps)


@dataclasses.dataclass(frozen=True)
class Finished:
  """How a run ended.

  Attributes:
    state: at the last step.
    step: the last step.
    reason: "completed", "paused" at `stop_at`, or the signal that stopped it
      ("SIGTERM").
    seconds: by phase (see `stopwatch`), summing to the wall time.
  """

  state: state_lib.State
  step: int
  reason: str
  seconds: Mapping[str, float]
