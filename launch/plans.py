"""A run before it begins: what its config alone decides, made and checked.

Training and the dry run both begin here, so that what one refuses the other
does too, before anything is read or written.
"""

import dataclasses
import functools

import jax
import ml_collections
import numpy as np

from launch import batch_sizes, errors, ranges, tasks
from training import options
from training import task as task_lib

# What is read after a run directory was opened.
_NEEDED = (
  "data.dir",
  "data.split",
  "data.eval_split",
  "data.num_measured",
  "mesh",
  "eval.batch_size",
  "eval.num_examples",
  "sample.num",
  "sample.batch",
)


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a run is made of, apart from its data and devices.

  Attributes:
    config: locked.
    adapter: of `launch.tasks`.
    assumed: stand-ins for what would be measured.
    task: made from the above.
    options: of the loop.
  """

  config: ml_collections.ConfigDict
  adapter: tasks.Adapter
  assumed: tasks.Measured
  task: task_lib.Task
  options: options.Options

  def check_sampler(self, num_classes: int) -> None:
    """Makes the sampler of the pictures that the run shows or scores, if any.

    Args:
      num_classes: of the dataset.

    Raises:
      ValueError: `config.sample` does not fit the model.
    """
    config, adapter = self.config, self.adapter
    scored = config.eval.get("scores")
    scored = scored and scored.every and tasks.offers(self.task, "sample")
    wanted = config.sample.every or scored
    if not wanted or not tasks.offers(adapter, "make_sampler"):
      return
    measured = {**self.assumed, "num_classes": np.int32(num_classes)}
    task = adapter.make_task(config, measured)
    adapter.make_sampler(config, task, measured, jax.random.key(0))


def make(config: ml_collections.ConfigDict) -> Plan:
  """Makes the plan of a run.

  Raises:
    ValueError: the config lacks a field or asks for something impossible.
  """
  for name in _NEEDED:
    _look_up(config, name)
  ranges.check(config)
  adapter = tasks.get(config.task)
  batch_sizes.check_config(config, adapter)
  made = _options(config)
  assumed = tasks.measured_or_assumed(adapter, config)
  task = adapter.make_task(config, assumed)
  if tasks.offers(adapter, "check_training"):
    adapter.check_training(config, task)
  adapter.make_array_encode(config, assumed, "train")
  return Plan(config, adapter, assumed, task, made)


def _look_up(config, name):
  try:
    functools.reduce(getattr, name.split("."), config)
  except AttributeError as error:
    raise errors.CommandError(
      f"the config has no {name}: add it, or begin with a config that ships"
    ) from error


def _options(config):
  return options.Options(
    num_steps=config.train.num_steps,
    batch_size=config.train.batch_size,
    log_every=config.train.log_every,
    checkpoint_every=config.train.checkpoint_every,
    keep=config.train.keep,
    best=config.train.get("best", ""),  # configs of before lack it
    on_nan=config.train.on_nan,
    seed=config.seed,
  )
