import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from data import device


def batches(count):
  for i in range(count):
    yield {"x": np.full([8, 2], i), "mask": np.ones(8, bool)}


def sharding():
  mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
  return NamedSharding(mesh, PartitionSpec("data"))


def test_prefetch_keeps_order_and_shards():
  found = list(device.prefetch(batches(5), sharding()))
  assert [int(np.asarray(batch["x"])[0, 0]) for batch in found] == list(
    range(5)
  )
  assert found[0]["x"].shape == (8, 2)
  assert found[0]["x"].addressable_shards[0].data.shape == (1, 2)


@pytest.mark.parametrize("depth", [1, 2])
def test_prefetch_runs_so_many_ahead(depth):
  taken = []

  def counted():
    for i, batch in enumerate(batches(10)):
      taken.append(i)
      yield batch

  iterator = device.prefetch(counted(), sharding(), depth)
  assert not taken
  for i in range(4):
    next(iterator)
    assert len(taken) == i + 1 + depth


def test_depth_is_checked():
  with pytest.raises(ValueError, match="depth 0"):
    next(device.prefetch(batches(1), sharding(), 0))


def test_in_step_gives_every_process_as_many(monkeypatch):
  # The other process has three batches; this one has two.
  others = iter([True, True, True, False])
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(
    multihost_utils,
    "process_allgather",
    lambda more: np.array([bool(more), next(others)]),
  )
  found = list(device.in_step(batches(2)))
  assert [bool(batch["mask"].any()) for batch in found] == [True, True, False]
  np.testing.assert_array_equal(found[2]["x"], found[1]["x"])


def test_in_step_alone_changes_nothing():
  assert len(list(device.in_step(batches(3)))) == 3
