"""Steps whose loss has LPIPS in it, as every published form has."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from tests.vqgan import tiny
from training import metrics, sharding
from vqgan import flops, task
from weights import lpips

KEY = jax.random.key(3)
PARAMS = lpips.random("vgg")


def _make(dtype="float32", perceptual=1.0, channels=3):
  """A task whose discriminator plays from the first step on, and a state."""
  shape = dataclasses.replace(tiny.SHAPE, resolution=32, in_channels=channels)
  critic = dataclasses.replace(tiny.CRITIC, start=0)
  made = tiny.make_task(
    critic, shape=shape, size=(32, 32), perceptual=perceptual, dtype=dtype
  )
  measured = made.measure([tiny.make_batch(made, 16, seed=9)])
  if perceptual:
    measured |= task.lpips_arrays(PARAMS)
  return made, jax.jit(made.init)(jax.random.key(0), measured)


@functools.cache
def _step(dtype="float32", perceptual=1.0, channels=3):
  """State of step 1, what the step told, and the task."""
  made, state = _make(dtype, perceptual, channels)
  batch = tiny.make_batch(made, 8)
  after, told = jax.jit(made.train_step)(state, batch, KEY)
  return after, metrics.values(told), made


def test_it_is_a_part_of_the_loss_and_of_the_adaptive_weight():
  after, told, made = _step()
  _, without, _ = _step(perceptual=0.0)
  before = _make()[1]
  assert 0.01 < told["train/lpips"] < 10
  assert told["train/l1"] == pytest.approx(without["train/l1"], rel=1e-5)
  # Its gradient is in that of the reconstruction, which the weight balances.
  name = "adversary/adaptive_weight"
  assert told[name] > 1.01 * without[name]
  rows = jax.jit(made.eval_step)(after, tiny.make_batch(made, 8), KEY)
  assert (np.asarray(rows["lpips"]) > 0).all()
  jax.tree.map(np.testing.assert_array_equal, after.frozen, before.frozen)


def test_eight_devices_agree_with_one():
  made, state = _make()
  mesh = sharding.make_mesh({"data": 4, "fsdp": 2})
  placed = jax.device_put(state, sharding.replicated(mesh))
  rows = jax.sharding.NamedSharding(
    mesh, jax.sharding.PartitionSpec(("data", "fsdp"))
  )
  batch = jax.device_put(tiny.make_batch(made, 8), rows)
  _, told = jax.jit(made.train_step)(placed, batch, KEY)
  told, expected = metrics.values(told), _step()[1]
  for name in ("train/loss", "train/lpips", "adversary/adaptive_weight"):
    assert told[name] == pytest.approx(expected[name], rel=1e-4), name


def test_bfloat16_is_close_to_float32():
  told, expected = _step("bfloat16")[1], _step()[1]
  assert told["train/lpips"] == pytest.approx(expected["train/lpips"], rel=0.03)


def test_shades_of_grey_are_compared_as_pictures():
  _, told, made = _step(channels=1)
  assert made.batch_spec(1)["image"].shape == (1, 32, 32, 1)
  assert 0.01 < told["train/lpips"] < 10


def test_its_gradient_passes_through_one_of_both_images():
  rgb = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
  distance = lambda a, b: lpips.distance(PARAMS, a, b).sum()
  forward = flops.count(distance, rgb, rgb)
  both_ways = flops.count(jax.value_and_grad(distance), rgb, rgb)
  # Two passes forward, one of them back.
  assert both_ways == pytest.approx(1.5 * forward, rel=0.01)
