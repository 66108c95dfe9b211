"""What the tests of checkpoints share: a state, and a folder where it lies."""

import jax
import pytest

from tests.training import cases, toy
from training import checkpoint, sharding


@pytest.fixture(scope="module")
def mesh():
  """One device."""
  return sharding.make_mesh(devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def state(mesh):
  """The toy's state, with frozen arrays."""
  return sharding.init(
    toy.Toy(frozen=True).init, mesh, jax.random.key(0), {}, rule=cases.RULE
  )


@pytest.fixture(scope="module")
def shapes(state):
  """Its shapes."""
  return jax.eval_shape(lambda: state)


@pytest.fixture(scope="module")
def saved(state, tmp_path_factory):
  """A folder with checkpoints 10 and 20."""
  folder = tmp_path_factory.mktemp("saved") / "checkpoints"
  checkpointer = checkpoint.Checkpointer(folder)
  for step in (10, 20):
    checkpointer.save(cases.at(state, step), {"note": step}, wait=True)
  return folder
