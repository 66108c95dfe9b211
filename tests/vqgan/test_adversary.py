"""The discriminator's loss: its regularisers, by their weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.vqgan import tiny
from training import metrics
from vqgan import losses

KEY = jax.random.key(3)
MEANS = {"real": jnp.float32(1.5), "made": jnp.float32(-1.0)}


@pytest.fixture(scope="module")
def setting():
  """Discriminator's parameters, its state, images and reconstructions."""
  keys = jax.random.split(KEY, 3)
  real, made = (jax.random.uniform(key, (4, 16, 16, 3)) for key in keys[:2])
  params, state = tiny.CRITIC.init(keys[2], real)
  return params, {**state, "lecam": MEANS}, real, 2 * made - 1


def _gradients(setting, step=4, **fields):
  """The gradients of a step of the discriminator, and what it told."""
  critic = dataclasses.replace(tiny.CRITIC, start=0, **fields)
  learn = tiny.jit(lambda *args: critic.learn(*args, jnp.int32(step), KEY))
  grads, state, told = learn(*setting)
  return grads, state, metrics.values(told)


def _assert_adds(setting, weight, penalty, **fields):
  """Holds what options add to the gradients to a weighted penalty's."""
  alone, _, _ = _gradients(setting)
  grads, _, _ = _gradients(setting, **fields)
  expected = tiny.jit(jax.grad(penalty))(setting[0])
  total = jax.tree.map(lambda x, y: x + weight * y, alone, expected)
  close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)
  jax.tree.map(close, grads, total)
  moved = max(np.abs(weight * x).max() for x in jax.tree.leaves(expected))
  assert moved > 1e-3


def test_lecam_is_added_by_its_weight_and_follows_the_logits(setting):
  _, state, real, made = setting
  logits = lambda params, x: tiny.CRITIC._logits(params, state, x, KEY)[0]
  decay = 0.75

  def averages(params):
    means = {"real": logits(params, real), "made": logits(params, made)}
    return {
      name: decay * MEANS[name] + (1 - decay) * x.mean()
      for name, x in means.items()
    }

  fixed = averages(setting[0])

  def penalty(params):
    sides = logits(params, real), logits(params, made)
    return losses.lecam(*sides, fixed["real"], fixed["made"])

  fields = {"lecam": 0.3, "lecam_decay": decay}
  _assert_adds(setting, 0.3, penalty, **fields)
  _, after, told = _gradients(setting, **fields)
  for name, mean in fixed.items():
    np.testing.assert_allclose(after["lecam"][name], mean, rtol=1e-4)
  found = told["adversary/lecam"]
  np.testing.assert_allclose(found, penalty(setting[0]), rtol=1e-4)


def test_r1_is_added_every_few_steps_and_as_many_times_heavier(setting):
  _, state, real, _ = setting
  stats = state["batch_stats"]

  def penalty(params):
    variables = {"params": params, "batch_stats": stats}
    score = lambda x: tiny.CRITIC.critic.apply(variables, x).sum()
    return jnp.mean(jnp.sum(jax.grad(score)(real) ** 2, (1, 2, 3)))

  fields = {"r1": 20.0, "r1_every": 4}
  _assert_adds(setting, 0.5 * 20 * 4, penalty, **fields)
  # In steps between it adds nothing, to the mean that is logged neither.
  between, _, other = _gradients(setting, step=5, **fields)
  _, _, told = _gradients(setting, **fields)
  found = told["adversary/r1"]
  np.testing.assert_allclose(found, penalty(setting[0]), rtol=1e-4)
  assert "adversary/r1" not in other and "adversary/logits_real" in other
  alone, _, _ = _gradients(setting, step=5)
  jax.tree.map(np.testing.assert_array_equal, between, alone)


def test_r1_is_of_each_row_alone():
  critic = dataclasses.replace(tiny.CRITIC, start=0, r1=1.0, r1_every=1)
  made = tiny.make_task(critic)
  state = tiny.make_state(made)
  pixels = made.pixels(tiny.make_batch(made))

  def penalty(rows):
    told = critic.learn(
      state.params["discriminator"],
      state.model_state["discriminator"],
      rows,
      rows,
      jnp.int32(0),
      KEY,
    )[2]
    return metrics.values(told)["adversary/r1"]

  alone = [penalty(pixels[i : i + 1]) for i in range(len(pixels))]
  assert min(alone) > 0
  np.testing.assert_allclose(penalty(pixels), np.mean(alone), rtol=1e-4)
