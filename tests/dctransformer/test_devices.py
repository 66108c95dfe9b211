"""The loss and the gradients are the same on one device and on eight."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from launch.adapters import dctransformer as adapter
from tests.dctransformer import tiny
from training import sharding

CHUNKS = (0, 0, 1, 1, 2, 3, 4, 4)


def _step(mesh, rule):
  """Take one step with rate 1; return (its metrics, minus the gradients)."""
  task = tiny.make_task(optax.sgd(1.0))
  state = tiny.init_task(task)
  before = jax.device_get(state.params)
  batch = jax.device_get(tiny.make_batch(CHUNKS))
  # Images of different lengths: devices count different numbers of elements.
  batch["length"] = np.array([60, 20, 30, 60, 26, 40, 60, 50], np.int32)
  batch["total"] = np.where(batch["length"] < 60, batch["length"], 90)
  placed = sharding.place(state, mesh, rule)
  state, metrics = jax.jit(task.train_step)(
    placed, sharding.place_batch(batch, mesh), jax.random.key(0)
  )
  change = jax.tree.map(np.subtract, jax.device_get(state.params), before)
  means = {
    name: float(x.value() if hasattr(x, "value") else x)
    for name, x in jax.device_get(metrics).items()
  }
  return placed, means, change


@pytest.mark.slow
@pytest.mark.parametrize(
  "shape", [{"data": 2, "fsdp": 4}, {"data": 2, "fsdp": 2, "tensor": 2}]
)
def test_eight_devices_give_the_loss_and_gradients_of_one(shape):
  rule = dataclasses.replace(adapter.RULE, min_size=64)
  one = sharding.make_mesh(devices=jax.devices()[:1])
  eight = sharding.make_mesh(shape)
  _, expected, gradients = _step(one, rule)
  placed, found, others = _step(eight, rule)
  split = [not x.sharding.is_fully_replicated for x in jax.tree.leaves(placed)]
  assert any(split)
  assert expected["train/loss"] > 1 and found.keys() == expected.keys()
  for name, value in expected.items():
    assert found[name] == pytest.approx(value, rel=1e-5), name
  for (path, a), b in zip(
    jax.tree_util.tree_leaves_with_path(gradients), jax.tree.leaves(others)
  ):
    name = jax.tree_util.keystr(path)
    np.testing.assert_allclose(b, a, atol=1e-6, rtol=1e-3, err_msg=name)
