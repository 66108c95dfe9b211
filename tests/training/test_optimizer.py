"""Optimiser: schedules, clipping, averages, exact accumulation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from training import metrics, optimizer
from training import state as state_lib


def rates(**kwargs):
  """Learning rates of steps 0 to 20."""
  schedule = optimizer.make_schedule(peak=2.0, warmup_steps=4, **kwargs)
  return np.array([float(schedule(step)) for step in range(21)])


@pytest.mark.parametrize("schedule", optimizer.SCHEDULES)
def test_schedules_warm_up_to_the_peak_and_then_do_not_rise(schedule):
  found = rates(total_steps=20, schedule=schedule)
  np.testing.assert_allclose(found[:5], [0.4, 0.8, 1.2, 1.6, 2.0], rtol=1e-6)
  assert (np.diff(found[4:]) <= 1e-6).all()


def test_schedules_end_where_they_should():
  assert rates(total_steps=20, schedule="constant")[-1] == 2.0
  cosine = rates(total_steps=20, schedule="cosine", final=0.1)
  np.testing.assert_allclose(cosine[[12, 20]], [1.1, 0.2], rtol=1e-5)
  linear = rates(total_steps=20, schedule="linear")
  np.testing.assert_allclose(linear[[12, 20]], [1.0, 0.0], atol=1e-6)
  root = rates(schedule="rsqrt")
  np.testing.assert_allclose(root[16], 1.0, rtol=1e-6)


@pytest.mark.parametrize(
  "kwargs, message",
  [
    ({"schedule": "magic"}, "constant, cosine, linear, rsqrt"),
    ({"name": "magic", "schedule": "constant"}, "adam, adamw, sgd"),
    ({"schedule": "cosine", "total_steps": None}, "must exceed warmup_steps"),
    ({"schedule": "constant", "weight_decay": 0.1}, "needs optimizer adamw"),
  ],
)
def test_impossible_choices_are_explained(kwargs, message):
  with pytest.raises(ValueError, match=message):
    optimizer.make(peak=1.0, **kwargs)


def test_updates_are_those_of_optax_and_decay_matrices_only():
  params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
  ours = optimizer.make(
    name="adamw",
    peak=0.1,
    schedule="constant",
    weight_decay=0.5,
    clip_norm=1.0,
  )
  theirs = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adamw(0.1, weight_decay=0.5, mask=optimizer.matrices),
  )
  state = state_lib.State.create(params, ours)
  their_params, their_state = params, theirs.init(params)
  for step in range(3):
    grads = jax.tree.map(lambda x, s=step: jnp.sin(x + s) * 3, state.params)
    state, found = optimizer.update(state, ours, grads)
    updates, their_state = theirs.update(grads, their_state, their_params)
    their_params = optax.apply_updates(their_params, updates)
    norm = optimizer.global_norm(grads)
    np.testing.assert_allclose(found["train/grad_norm"], norm, rtol=1e-6)
    np.testing.assert_allclose(found["train/learning_rate"], 0.1, rtol=1e-6)
    update_norm = optimizer.global_norm(updates)
    np.testing.assert_allclose(
      found["train/update_norm"], update_norm, rtol=1e-5
    )
  assert int(state.step) == 3
  for name in params:
    np.testing.assert_allclose(
      state.params[name], their_params[name], rtol=1e-6
    )


def test_the_average_warms_up_and_follows():
  params = {"w": jnp.zeros(3)}
  tx = optimizer.make(name="sgd", peak=1.0, schedule="constant", b1=0.0)
  state = state_lib.State.create(params, tx, ema=True)
  average = np.zeros(3)
  for step in range(4):
    state = optimizer.apply_updates(state, tx, {"w": -jnp.ones(3)}, 0.5)
    decay = min(0.5, (1 + step) / (10 + step))
    average = decay * average + (1 - decay) * (step + 1)
  np.testing.assert_allclose(state.ema["w"], average, rtol=1e-6)
  assert state.sampling_params is state.ema
  with pytest.raises(ValueError, match="ema_decay is None"):
    optimizer.apply_updates(state, tx, {"w": jnp.ones(3)})


def _loss(params, batch, key):
  del key
  error = (batch["x"] @ params["w"] - batch["y"]) ** 2
  loss = metrics.Mean.of(error, batch["mask"])
  return loss, {"loss": loss, "largest": jnp.max(batch["x"])}


def test_accumulation_is_exact_when_counts_differ():
  key = jax.random.key(0)
  batch = {
    "x": jax.random.normal(key, (12, 3)),
    "y": jnp.arange(12.0),
    # Pieces of 0 to 4 rows that count.
    "mask": jnp.array([1, 0, 0, 1, 1, 0, 1, 0, 0, 1, 0, 0], bool),
  }
  params = {"w": jnp.ones(3)}
  run = jax.jit(optimizer.accumulate, static_argnums=(0, 1))
  (whole, found), grads = run(_loss, 1, params, batch, key)
  expected = jax.grad(lambda p: _loss(p, batch, key)[0].value())(params)
  np.testing.assert_allclose(grads["w"], expected["w"], rtol=1e-5)
  for num in (2, 3, 6):
    (loss, merged), pieces = run(_loss, num, params, batch, key)
    np.testing.assert_allclose(loss, whole, rtol=1e-5)
    np.testing.assert_allclose(pieces["w"], grads["w"], rtol=1e-5)
    values = metrics.values(metrics.to_host(merged))
    assert values["loss"] == pytest.approx(float(whole), rel=1e-5)
    assert merged["largest"].count == num
  assert float(found["loss"].count) == 5


def test_accumulation_of_nothing_is_zero_and_not_nan():
  batch = {"x": jnp.ones((4, 3)), "y": jnp.ones(4), "mask": jnp.zeros(4, bool)}
  params, key = {"w": jnp.ones(3)}, jax.random.key(0)
  (loss, _), grads = optimizer.accumulate(_loss, 2, params, batch, key)
  assert float(loss) == 0 and not np.asarray(grads["w"]).any()


def test_pieces_have_keys_of_their_own_and_must_divide_the_batch():
  def loss(params, batch, key):
    draw = jax.random.uniform(key) * params["w"]
    return draw + 0.0 * batch["x"].sum(), {"square": draw**2, "draw": draw}

  batch, key = {"x": jnp.ones(4)}, jax.random.key(0)
  _, found = optimizer.accumulate(loss, 4, {"w": 1.0}, batch, key)[0]
  values = metrics.values(metrics.to_host(found))
  assert values["square"] > values["draw"] ** 2 + 1e-3
  with pytest.raises(ValueError, match="accumulate 3 must divide"):
    optimizer.accumulate(loss, 3, {"w": 1.0}, batch, key)
