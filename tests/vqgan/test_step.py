"""What a step does to parameters: its order, its weights, its pieces."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.vqgan import tiny
from training import metrics, sharding
from vqgan import quantizer, task

KEY = jax.random.key(3)
# So that parameters differ by their gradients, whatever the scale of those.
PLAIN = optax.sgd(0.1)
CRITIC = dataclasses.replace(tiny.CRITIC, start=0)


def _step(made, batch_size=4, state=None, **changes):
  """The state before a step, the one after it, and what it told."""
  state = tiny.make_state(made) if state is None else state
  state = state.replace(**changes)
  batch = tiny.make_batch(made, batch_size)
  after, told = tiny.jit(made.train_step)(state, batch, KEY)
  return state, after, metrics.values(told)


def _assert_close(a, b, **tolerance):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def _moved(before, after, name="generator"):
  """How far a player's parameters moved, as one vector."""
  old, new = (jax.tree.leaves(x.params[name]) for x in (before, after))
  return np.concatenate([np.ravel(y - x) for x, y in zip(old, new)])


@pytest.mark.parametrize("same", [True, False])
def test_discriminator_learns_on_the_reconstruction_it_is_to(same):
  critic = dataclasses.replace(CRITIC, same_forward=same)
  made = tiny.make_task(critic, tx=optax.sgd(3.0), adversary_tx=PLAIN)
  before, after, _ = _step(made)
  pixels = made.pixels(tiny.make_batch(made))

  @tiny.jit
  def gradients(generator):
    return critic.learn(
      before.params["discriminator"],
      before.model_state["discriminator"],
      pixels,
      made.apply(generator, pixels, train=True)[0],
      before.step,
      KEY,
    )[0]

  grads = [gradients(x.params["generator"]) for x in (before, after)]
  old, new = (
    np.concatenate([-0.1 * np.ravel(x) for x in jax.tree.leaves(grad)])
    for grad in grads
  )
  found = _moved(before, after, "discriminator")
  expected, other = (old, new) if same else (new, old)
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
  assert np.abs(found - other).max() > 1e-4


def test_the_codebook_has_a_factor_in_the_loss_and_in_its_gradient():
  codes = quantizer.Nearest(16, 3, restart=False)
  found = []
  for weight in (0.0, 1.0, 2.5):
    made = tiny.make_task(None, codes, tx=PLAIN, codebook_weight=weight)
    before, after, told = _step(made)
    found.append((told["train/loss"], _moved(before, after)))
    terms = told["train/codebook"] + 0.25 * told["train/commitment"]
    assert told["train/loss"] == pytest.approx(
      told["train/l1"] + weight * terms, rel=1e-5
    )
  (loss, moved), (loss_1, moved_1), (loss_2, moved_2) = found
  assert loss_2 - loss == pytest.approx(2.5 * (loss_1 - loss), rel=1e-3)
  np.testing.assert_allclose(
    moved_2 - moved, 2.5 * (moved_1 - moved), rtol=1e-3, atol=1e-6
  )
  assert np.abs(moved_1 - moved).max() > 1e-4


def test_lpips_has_a_factor_in_the_loss_and_in_its_gradient(monkeypatch):
  distance = lambda params, a, b, dtype: jnp.sum((a - b) ** 2, (1, 2, 3))
  monkeypatch.setattr(task.lpips, "distance", distance)
  target, image = jax.random.normal(KEY, (2, 2, 16, 16, 3))
  for weight in (0.5, 2.0):
    made = tiny.make_task(None, perceptual=weight)
    (loss, told), gradient = jax.value_and_grad(
      lambda x, made=made: made.reconstruction({"lpips": {}}, x, target),
      has_aux=True,
    )(image)
    expected = float(distance(None, image, target, None).mean())
    np.testing.assert_allclose(told["train/lpips"], expected, rtol=1e-5)
    whole = told["train/l1"] + weight * expected
    np.testing.assert_allclose(loss, whole, rtol=1e-5)
    sign = np.sign(image - target) / image.size
    np.testing.assert_allclose(
      gradient, sign + weight * (image - target), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("average", [False, True])
def test_accumulated_pieces_move_everything_as_the_batch_does(average):
  codes = quantizer.Nearest(16, 3, average=average, decay=0.7, restart=False)
  states = []
  for pieces in (1, 2):
    made = tiny.make_task(
      None, codes, tx=PLAIN, accumulate=pieces, ema_decay=0.5
    )
    before, after, _ = _step(made)
    states.append(after)
  one, two = states
  for name in ("params", "ema", "model_state"):
    whole, parts = getattr(one, name), getattr(two, name)
    _assert_close(whole, parts, rtol=1e-4, atol=1e-6)
  assert np.abs(_moved(before, one)).max() > 1e-3
  if average:
    assert one.model_state["quantizer"]["counts"].max() > 5


def test_batch_norm_sees_each_accumulated_piece_over_all_devices():
  made = tiny.make_task(CRITIC, accumulate=2)
  state, batch = tiny.make_state(made), tiny.make_batch(made, 16)
  pixels = made.pixels(batch)
  generator = state.params["generator"]
  expected = state.model_state["discriminator"]
  learn = tiny.jit(
    lambda state_, rows: CRITIC.learn(
      state.params["discriminator"],
      state_,
      rows,
      made.apply(generator, rows)[0],
      0,
      KEY,
    )[1]
  )
  for i in range(2):
    expected = learn(expected, pixels[i::2])
  mesh = sharding.make_mesh({"data": 8})
  train_step = tiny.jit(made.train_step)
  for where in (lambda x: x, lambda x: sharding.place_batch(x, mesh)):
    after = train_step(state, where(batch), KEY)[0]
    found = after.model_state["discriminator"]["batch_stats"]
    _assert_close(found, expected["batch_stats"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
  ("codes", "critic"),
  [
    (quantizer.Nearest(256, 3, average=True, decay=0.7, dead_after=3), None),
    (quantizer.Gumbel(256, 3, kl_weight=0.1, dead_after=3), None),
    (tiny.CODES, dataclasses.replace(CRITIC, same_forward=False)),
  ],
  ids=["average", "gumbel", "alternating"],
)
def test_eight_devices_move_everything_as_one_does(codes, critic):
  made = tiny.make_task(
    critic, codes, tx=PLAIN, adversary_tx=PLAIN, ema_decay=0.5
  )
  state = tiny.make_state(made)
  # One step more without use, and a code of `dead_after` 3 restarts.
  counters = {
    **state.model_state["quantizer"],
    "idle": jnp.full(codes.num_codes, 2, jnp.int32),
  }
  state = state.replace(
    model_state={**state.model_state, "quantizer": counters}
  )
  before, one, told = _step(made, 8, state)
  mesh = sharding.make_mesh({"data": 4, "fsdp": 2})
  eight, also = tiny.jit(made.train_step)(
    sharding.place(state, mesh, sharding.FsdpRule(min_size=64)),
    sharding.place_batch(tiny.make_batch(made, 8), mesh),
    KEY,
  )
  _assert_close(told, metrics.values(also), rtol=1e-3, atol=1e-5)
  for name in ("params", "ema", "model_state"):
    _assert_close(
      *(getattr(x, name) for x in (one, eight)), rtol=1e-3, atol=1e-5
    )
  for name in one.params:
    assert np.abs(_moved(before, one, name)).max() > 1e-4
  if codes.dead_after == 3:
    assert told["codes/dead"] > 0  # so that some restarted


@pytest.mark.slow
def test_bfloat16_loses_what_float32_loses():
  curves = []
  for dtype in ("float32", "bfloat16"):
    critic = dataclasses.replace(tiny.CRITIC, start=50)
    made = tiny.make_task(critic, dtype=dtype)
    state = tiny.make_state(made)
    train_step, losses = tiny.jit(made.train_step), []
    for i in range(100):
      batch = tiny.make_batch(made, seed=i % 7)
      state, told = train_step(state, batch, KEY)
      losses.append(metrics.values(told)["train/loss"])
    curves.append(np.asarray(losses).reshape(10, 10).mean(1))
  single, half = curves
  np.testing.assert_allclose(half, single, rtol=0.01)
