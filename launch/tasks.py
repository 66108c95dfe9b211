"""The registry: which adapter makes which task. The only one there is.

A new task is a module in launch/adapters with the functions of `Adapter`, and
a line here. Adapters are imported when they are asked for, so that one model
never needs the packages of another.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import jax
import ml_collections
import numpy as np

from data import source as source_lib
from evaluation import likelihood
from launch import errors, flags
from training import sharding
from training import state as state_lib
from training import task as task_lib

ADAPTERS = {
  "dctransformer": "launch.adapters.dctransformer",
  "prior": "launch.adapters.prior",
  "sundae": "launch.adapters.sundae",
  "vqgan": "launch.adapters.vqgan",
}

# What an encode function is for: random rows to train on; every row of every
# example; one row an example with all that `measure` reads; and, in NumPy only,
# the picture that the task would reproduce: `image` uint8 [1, h, w, 3] on a
# canvas of one size, `size` int32 [1, 2].
USES = ("train", "eval", "measure", "image")

Measured = Mapping[str, np.ndarray]
# (state, global indices int32 [n]) -> n samples; sample i depends on i alone.
Sampler = Callable[[state_lib.State, np.ndarray], task_lib.Samples]


class Adapter(Protocol):
  """What a module in launch/adapters offers. All from `measure` on is optional.

  Attributes:
    LIKELIHOOD: by name, the sums of `eval_step` that add up to a total cost;
      the first is the headline.
    RULE: how the state is sharded.
    SAMPLING: the flags of launch.sample that mean something to it, for an
      adapter that has `make_requested_sampler` (see `launch.sample_flags`).
  """

  LIKELIHOOD: Mapping[str, tuple[str, ...]]
  RULE: sharding.Rule

  def make_task(
    self, config: ml_collections.ConfigDict, measured: Measured
  ) -> task_lib.Task:
    """Makes the task."""
    ...

  def make_encode(
    self, config: ml_collections.ConfigDict, measured: Measured, use: str
  ) -> Callable:
    """Makes `encode(record, seed)` of TensorFlow, for a use but `image`."""
    ...

  def make_array_encode(
    self, config: ml_collections.ConfigDict, measured: Measured, use: str
  ) -> Callable:
    """Makes the same of NumPy, for each of USES."""
    ...

  def rows_per_example(self, config: ml_collections.ConfigDict) -> int:
    """Returns the rows that each example gives in training."""
    ...

  def measure(
    self, config: ml_collections.ConfigDict, batches: Iterable[Mapping]
  ) -> Measured:
    """Measures what has to be known of the data before the first step."""
    ...

  def most_measured(self, config: ml_collections.ConfigDict) -> int:
    """Returns the examples a batch for `measure` may hold, for their size."""
    ...

  def assumed(self, config: ml_collections.ConfigDict) -> Measured:
    """Returns what `measure` might, where there is no data: for dry runs."""
    ...

  def rates(self, sums: likelihood.Sums) -> dict[str, float]:
    """Divides the sums of `eval_step` where they are no likelihood."""
    ...

  def remarks(self, config: ml_collections.ConfigDict) -> list[str]:
    """Returns a line for each field that has no effect as others are set."""
    ...

  def check_training(
    self, config: ml_collections.ConfigDict, task: Any
  ) -> None:
    """Refuses, by a ValueError, what can be opened but not be trained."""
    ...

  def rates_an_image(self, config: ml_collections.ConfigDict) -> list[str]:
    """Returns the fields of the rates that scale with train.batch_size."""
    ...

  def check_source(
    self, config: ml_collections.ConfigDict, source: source_lib.Source
  ) -> None:
    """Refuses, by a CommandError, a dataset before anything is written."""
    ...

  def check(
    self,
    config: ml_collections.ConfigDict,
    measured: Measured,
    source: source_lib.Source,
  ) -> None:
    """Refuses, by a CommandError, records that are not those of its run."""
    ...

  def exported(
    self,
    config: ml_collections.ConfigDict,
    measured: Measured,
    state: state_lib.State,
  ) -> tuple[ml_collections.ConfigDict, Measured, state_lib.State]:
    """Returns what launch.export writes, if less than it would."""
    ...

  def make_sampler(
    self,
    config: ml_collections.ConfigDict,
    task: task_lib.Task,
    measured: Measured,
    key: jax.Array,
  ) -> Sampler:
    """Makes the sampler of the pictures that a run shows of itself."""
    ...

  def jpeg_quality(self, config: ml_collections.ConfigDict) -> int:
    """Returns the quality at which JPEG is compared with the likelihood."""
    ...


def get(name: str) -> Adapter:
  """Imports the adapter of a task.

  Raises:
    CommandError: there is no such task.
  """
  if name not in ADAPTERS:
    raise errors.CommandError(
      f"no task {name!r}{flags.did_you_mean(name, list(ADAPTERS))}"
    )
  return importlib.import_module(ADAPTERS[name])


def offers(adapter: Adapter, function: str) -> bool:
  """Says whether an adapter has an optional function."""
  return getattr(adapter, function, None) is not None


def measured_or_assumed(
  adapter: Adapter, config: ml_collections.ConfigDict
) -> dict[str, Any]:
  """Returns stand-ins for what would be measured; {} where nothing is."""
  if not offers(adapter, "measure"):
    return {}
  return dict(adapter.assumed(config))
