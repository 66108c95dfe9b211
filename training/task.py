"""The seam between the loop and a model: what a task has to offer."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import flax
import jax
import numpy as np

from training import metrics as metrics_lib
from training import state as state_lib


@flax.struct.dataclass
class Samples:
  """A batch of samples.

  Attributes:
    images: uint8 [b, h, w, 3], padded at the bottom and right.
    sizes: int32 [b, 2], rows and columns of each image that count.
    tokens: what the model drew, in its own representation.
    info: further arrays by name (steps used, mass on invalid moves, ...).
  """

  images: Any
  sizes: Any
  tokens: Any
  info: Any


@runtime_checkable
class Task(Protocol):
  """Pure functions of one model; a frozen dataclass of plain values.

  A task leaves out what makes no sense for it (`sample` of an autoencoder).
  It may also have

    measure(batches: Iterator[dict]) -> dict[str, np.ndarray]

  run once before `init` on host batches, for what has to be measured from the
  data (deviations, palettes, histograms), and

    sample(state, keys, condition) -> Samples     keys: [b], one a sample
    reconstruct(state, batch) -> uint8 [b, h, w, 3]
  """

  def init(
    self, key: jax.Array, measured: Mapping[str, np.ndarray]
  ) -> state_lib.State:
    """Make the state of step 0."""
    ...

  def train_step(
    self, state: state_lib.State, batch: Mapping[str, Any], key: jax.Array
  ) -> tuple[state_lib.State, metrics_lib.Metrics]:
    """Take one step.

    `key` is the same at every step: fold in `state.step` first. The returned
    state's `step` is one higher (`optimizer.apply_updates` does it).
    """
    ...

  def eval_step(
    self, state: state_lib.State, batch: Mapping[str, Any], key: jax.Array
  ) -> Mapping[str, jax.Array]:
    """Return sums a row, float32 [b]; rows with `batch["mask"]` False are 0."""
    ...

  def train_flops(self, batch_size: int) -> float:
    """Count the floating-point operations of one training step."""
    ...

  def batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Describe one training batch."""
    ...


Batches = Iterator[Mapping[str, Any]]
