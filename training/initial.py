"""The state a run begins with: restored from a checkpoint, or new."""

import dataclasses
import logging
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from training import checkpoint, sharding
from training import state as state_lib
from training import task as task_lib

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Initial:
  """Makes and restores states of one shape.

  Attributes:
    task: its `init` makes the state.
    seed: of the parameters.
    mesh: where the state lives.
    rule: see `sharding.shardings`.
    measured: tree of host arrays for `task.init`.
    frozen: arrays on the mesh to put into the state; None leaves `task.init`'s.
  """

  task: task_lib.Task
  seed: int
  mesh: Mesh
  rule: sharding.Rule | None
  measured: Any
  frozen: Any

  def restore(
    self, saved: checkpoint.Checkpointer
  ) -> checkpoint.Restored | None:
    """The newest good checkpoint, or None.

    All checkpoints share the frozen arrays. Damaged ones are made again, and
    have to be those that the checkpoints were saved with.
    """
    shapes = jax.eval_shape(self._init, *self._arguments())
    restore = lambda frozen: saved.restore(shapes, self.mesh, self.rule, frozen)
    try:
      return restore(self.frozen)
    except checkpoint.FrozenDamagedError as error:
      try:
        restored = restore(self.make().frozen)
      except checkpoint.CheckpointError:
        raise error from None
      _LOG.warning("%s; or let it be: they were made again", error)
      return restored

  def make(self) -> state_lib.State:
    """The state of step 0, born where it belongs."""
    arguments = self._arguments()
    return sharding.init(self._init, self.mesh, *arguments, rule=self.rule)

  def _arguments(self):
    key, _ = keys(self.seed)
    return key, self.measured, self.frozen

  def _init(self, key, measured, frozen):
    state = self.task.init(key, measured)
    if frozen is not None:
      state = state.replace(frozen=frozen)
    # A restored array is never weakly typed, and the step must not be compiled
    # for other types than the first time.
    return jax.tree.map(lambda x: jnp.asarray(x, x.dtype), state)


def keys(seed: int) -> tuple[jax.Array, jax.Array]:
  """Split a seed into the keys of the initial state and of the steps."""
  first, second = jax.random.split(jax.random.key(seed))
  return first, second
