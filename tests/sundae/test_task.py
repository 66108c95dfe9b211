"""The task: steps, evaluation, samples, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sundae import corruption, decode
from tests.sundae import tiny
from training import metrics as metrics_lib
from training import sharding


@pytest.fixture(scope="module")
def setup():
  """Return (task, state, jitted train_step): two unrolls, two classes."""
  task = tiny.make_task(ema_decay=0.5, accumulate=2)
  return task, tiny.init_task(task), jax.jit(task.train_step)


def test_step_counts_and_reports_every_unroll(setup):
  _, state, step = setup
  after, metrics = step(state, tiny.batch(4), jax.random.key(1))
  assert int(after.step) == 1
  nats = [metrics[f"train/nats_per_code_unroll_{t}"].value() for t in (1, 2)]
  np.testing.assert_allclose(metrics["train/loss"], np.mean(nats), rtol=1e-5)
  for t in (1, 2):
    assert 0 <= metrics[f"train/right_fraction_unroll_{t}"].value() <= 1
  moved = jax.tree.map(lambda a, b: bool((a != b).any()), after, state)
  assert moved.params["params"]["class_table"]["embedding"]
  assert moved.ema["params"]["head"]["kernel"]


@pytest.mark.parametrize(
  "axes", [{"data": 4, "fsdp": 2}, {"data": 2, "fsdp": 2, "tensor": 2}]
)
def test_eight_devices_move_everything_as_one_does(axes, capfd):
  task = tiny.make_task(
    model={"layers": (1, 1, 1), "resampling": "patch"},
    unrolls=3,
    class_drop=0.5,
    ema_decay=0.5,
  )
  state, batch, key = tiny.init_task(task), tiny.batch(8), jax.random.key(1)
  step = jax.jit(task.train_step)
  one, told = step(state, batch, key)
  mesh = sharding.make_mesh(axes)
  eight, also = step(
    sharding.place(state, mesh, sharding.FsdpRule(min_size=64)),
    sharding.place_batch(batch, mesh),
    key,
  )
  close = lambda a, b: jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), a, b
  )
  close(metrics_lib.values(told), metrics_lib.values(also))
  close((one.params, one.ema), (eight.params, eight.ema))
  moved = jax.tree.map(lambda a, b: abs(a - b).max(), one.params, state.params)
  assert min(map(float, jax.tree.leaves(moved))) > 1e-5
  assert "Involuntary full rematerialization" not in capfd.readouterr().err


def test_noise_differs_from_step_to_step_and_is_the_same_again(setup):
  _, state, step = setup
  loss = lambda s: float(
    step(s, tiny.batch(4), jax.random.key(1))[1]["train/loss"]
  )
  later = state.replace(step=jnp.int32(7))
  assert loss(state) == loss(state) != loss(later)


def test_rows_are_encoded_as_codes_are_read(setup):
  task, state, step = setup
  batch = tiny.batch(4)
  rows = task.decode({}, batch["codes"].astype(jnp.int32))[..., :1]
  other = {"image": rows, **{k: batch[k] for k in ("label", "example_id")}}
  one, two = (step(state, x, jax.random.key(1))[1] for x in (batch, other))
  assert one["train/loss"] == two["train/loss"]
  assert task.batch_spec(4)["image"].shape == rows.shape
  np.testing.assert_array_equal(task.reconstruct(state, other)[..., :1], rows)


def test_null_class_replaces_labels_in_training():
  task = tiny.make_task(class_drop=1.0, unrolls=1)
  state, step = tiny.init_task(task), jax.jit(task.train_step)
  batch = tiny.batch(4)
  other = {**batch, "label": 1 - batch["label"]}
  losses = [
    step(state, x, jax.random.key(1))[1]["train/loss"] for x in (batch, other)
  ]
  assert losses[0] == losses[1]


def test_evaluation_depends_on_the_example_alone(setup):
  task, state, _ = setup
  run = jax.jit(task.eval_step)
  batch = {**tiny.batch(4), "mask": jnp.array([True, True, True, False])}
  rows = run(state, batch, jax.random.key(0))
  order = jnp.array([2, 3, 1, 0])
  turned = run(
    state, {k: x[order] for k, x in batch.items()}, jax.random.key(0)
  )
  for name, values in rows.items():
    np.testing.assert_allclose(values[order], turned[name], rtol=1e-5)
    assert values[3] == 0
  assert rows["elements"].tolist() == [16, 16, 16, 0]
  assert (rows["right_unroll_2"][:3] <= 16).all()
  assert (rows["nats_unroll_1"][:3] > 0).all()


def test_larger_canvas_is_filled_and_given_codes_are_kept(setup):
  task, state, _ = setup
  given = tiny.codes(2, (6, 8))
  keep = jnp.zeros((2, 6, 8), bool).at[:, 1:3, 2:7].set(True)
  condition = decode.Condition(jnp.array([0, 1]), given, keep)
  settings = decode.Settings.create(4, 1.0, min_steps=2)
  run = jax.jit(task.sample)
  keys = jax.random.split(jax.random.key(0), 2)
  samples = run(state, keys, condition, settings)
  assert samples.images.shape == (2, 12, 16, 3)
  assert samples.sizes.tolist() == [[12, 16]] * 2
  np.testing.assert_array_equal(samples.tokens[keep], given[keep])
  # 2 x 3 windows of at least one and at most four steps.
  assert ((samples.info["steps"] >= 6) & (samples.info["steps"] <= 24)).all()
  free = samples.tokens[~keep]
  assert len(np.unique(free)) > 3 and free.min() >= 0
  assert (
    run(state, keys[::-1], condition, settings).tokens[~keep] != free
  ).any()


def test_steps_of_a_larger_canvas_are_not_remembered(setup):
  task, state, _ = setup
  condition = decode.nothing_given(jnp.zeros(1, jnp.int32), (6, 8))
  with pytest.raises(ValueError, match="frames 3 of a larger canvas"):
    task.sample(
      state, jax.random.split(jax.random.key(0), 1), condition, frames=3
    )


def test_unrolls_have_to_be_some():
  with pytest.raises(ValueError, match="unrolls 0 must be at least 1"):
    tiny.make_task(unrolls=0)


@pytest.mark.slow
def test_small_model_memorises_eight_images():
  task = tiny.make_task(
    tx=optax.adam(1e-2), model={"layers": (1, 1, 1), "resampling": "patch"}
  )
  state, step = tiny.init_task(task, scale=0.1), jax.jit(task.train_step)
  batch = tiny.batch(8)
  clean = batch["codes"].astype(jnp.int32)
  denoise = jax.jit(
    lambda state, z: task.model.apply(state.params, z, batch["label"])
  )
  right = 0.0
  for number in range(2000):
    state, _ = step(state, batch, jax.random.key(1))
    if number % 200 == 199:
      right = []
      for seed in range(50):
        keys = jax.random.split(jax.random.key(seed))
        noisy = corruption.replace(*keys, clean, jnp.full(8, 0.3), 7)
        guess = jnp.argmax(denoise(state, noisy), axis=-1)
        right.append(np.mean(guess == clean))
      right = np.mean(right)
      if right > 0.995:
        break
  assert right > 0.99
