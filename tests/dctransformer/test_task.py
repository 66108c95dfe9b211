"""The task: sums of chunks, charges, accumulation, overfitting."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dctransformer import chunks
from tests.dctransformer import tiny

_TOTALS = ("bits_channel", "bits_position", "bits_value")


@pytest.fixture(scope="module")
def setup():
  """Return (task, state): open gates, three classes."""
  task = tiny.make_task()
  return task, tiny.init_task(task)


@functools.cache
def _eval_step(task):
  return jax.jit(task.eval_step)


def _evaluate(task, state, batch):
  mask = batch.get("mask", jnp.ones(batch["chunk"].shape, bool))
  return _eval_step(task)(state, {**batch, "mask": mask}, None)


def test_one_chunk_holds_what_one_pass_counts():
  # A list that fits in one chunk costs what brute force over it costs.
  plan = chunks.Plan(chunk_len=80, overlap=0, max_chunks=1)
  task = tiny.make_task(plan=plan)
  state = tiny.init_task(task)
  batch = tiny.make_batch([0, 0], plan=plan)
  short = jnp.array([30, 41])
  batch |= {"length": short, "total": short}
  rows = _evaluate(task, state, batch)
  chunk, coefficients = jax.jit(task._inputs)(batch)
  assert not coefficients.any()
  out = jax.jit(task.model.apply)(
    state.params,
    chunk,
    coefficients,
    state.frozen["channel_std"],
    batch["label"],
    batch["blocks"],
  )
  for i, n in enumerate(short.tolist()):
    log = lambda x, i=i: np.asarray(jax.nn.log_softmax(x[i])) / np.log(2)
    expected = dict.fromkeys(_TOTALS, 0.0)
    expected["bits_channel"] -= log(out.channel)[n, task.codec.stop]
    for l in range(n):
      value = int(batch["value"][i, l])
      assert value != 0
      # -V..-1 and 1..V are the classes 0..2V-1.
      value += task.codec.max_value - (1 if value > 0 else 0)
      channel, position = batch["channel"][i, l], batch["position"][i, l]
      expected["bits_channel"] -= log(out.channel)[l, channel]
      expected["bits_position"] -= log(out.position)[l, position]
      expected["bits_value"] -= log(out.value)[l, value]
    for name in _TOTALS:
      np.testing.assert_allclose(
        rows[name][i], expected[name], rtol=1e-5, err_msg=name
      )


def test_every_slot_is_counted_once_over_the_chunks(setup):
  task, _ = setup
  batch = tiny.make_batch(list(range(5)))
  batch = jax.tree.map(lambda x: jnp.repeat(x[:1], 5, axis=0), batch)
  batch |= {
    "chunk": jnp.arange(5),
    "length": jnp.full((5,), 53),
    "total": jnp.full((5,), 53),
  }
  chunk, _ = task._inputs(batch)
  assert int(chunk.count_element.sum()) == 53
  assert int(chunk.count_channel.sum()) == 54  # and the stop


def test_charges_are_counted_with_the_first_chunk(setup):
  task, state = setup
  batch = tiny.make_batch([0, 1])
  batch["clipped"] = jnp.array([2, 2])
  rows = _evaluate(task, state, batch)
  codec = task.codec
  uniform = np.log2(codec.num_channels * codec.num_positions * codec.num_values)
  lost = int(batch["total"][0] - batch["length"][0])
  assert lost > 0
  np.testing.assert_allclose(
    rows["bits_charged"], [lost * uniform + 32, 0], rtol=1e-6
  )
  np.testing.assert_array_equal(rows["pixels"], [1024, 0])


def test_masked_rows_count_nothing(setup):
  task, state = setup
  batch = {**tiny.make_batch([0, 1]), "mask": jnp.array([True, False])}
  rows = _evaluate(task, state, batch)
  assert all(x[1] == 0 for x in rows.values())
  assert all(rows[name][0] > 0 for name in _TOTALS)


def test_legal_moves_never_cost_more(setup):
  task, state = setup
  rows = _evaluate(task, state, tiny.make_batch([0, 1, 2]))
  for field in ("channel", "position"):
    masked, plain = rows[f"bits_{field}_masked"], rows[f"bits_{field}"]
    assert (masked <= plain).all() and masked.sum() < plain.sum()


def test_accumulated_step_equals_the_whole_batch():
  batch = tiny.make_batch([0, 1, 2, 4])
  results = []
  for pieces in (1, 2):
    task = tiny.make_task(tx=optax.sgd(0.1), accumulate=pieces)
    state = tiny.init_task(task)
    state, metrics = jax.jit(task.train_step)(state, batch, jax.random.key(1))
    results.append((state.params, metrics["train/loss"]))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *results
  )


def test_first_steps_reach_every_parameter():
  task = tiny.make_task(gate=0.0)
  state = tiny.init_task(task)
  step = jax.jit(task.train_step)
  batch = tiny.make_batch([0, 1, 2, 3])
  start = state.params
  for _ in range(3):
    state, metrics = step(state, batch, jax.random.key(1))
  assert jnp.isfinite(metrics["train/loss"])
  moved = jax.tree.map(lambda a, b: bool((a != b).any()), start, state.params)
  still = [
    jax.tree_util.keystr(path)
    for path, leaf in jax.tree_util.tree_leaves_with_path(moved)
    if not leaf
  ]
  # A constant added to all keys cancels in the softmax.
  assert all("key" in path and "bias" in path for path in still), still


def test_null_class_replaces_labels_in_training():
  batch = tiny.make_batch([0, 1])
  task = tiny.make_task(class_drop=1.0)
  state = tiny.init_task(task)
  other = {**batch, "label": batch["label"] + 1}
  step = jax.jit(task.train_step)
  losses = [
    step(state, b, jax.random.key(1))[1]["train/loss"] for b in (batch, other)
  ]
  assert losses[0] == losses[1]


def test_weighted_draws_estimate_the_bits_of_all_chunks():
  count = 3
  batch = tiny.make_batch([0] * count)
  batch |= {
    "length": batch["length"] * 0 + 30,
    "total": batch["total"] * 0 + 30,
  }
  means = {}
  for weighted in (False, True):
    task = tiny.make_task(optax.sgd(0.0), weighted=weighted)
    state = tiny.init_task(task)
    step = jax.jit(task.train_step)
    rows = []
    for chunk in range(count):
      at = {"chunk": jnp.full((count,), chunk, jnp.int32)}
      _, metrics = step(state, batch | at, jax.random.key(0))
      rows.append(metrics["train/bits_per_element"])
    means[weighted] = np.array([(row.total, row.count) for row in rows])
  chance = np.asarray(chunks.probabilities(tiny.PLAN))[count, :count]
  assert chance[0] > 1.5 * chance[2]
  # What draws give on average, against every chunk once.
  np.testing.assert_allclose(
    chance @ means[True], means[False].sum(axis=0), rtol=1e-5
  )


@pytest.mark.slow
def test_small_model_overfits_eight_images():
  plan = chunks.Plan(chunk_len=12, overlap=4, max_chunks=5, floor=1.0)
  task = tiny.make_task(tx=optax.adam(3e-3), plan=plan)
  state = tiny.init_task(task)
  step = jax.jit(task.train_step)
  rng = np.random.default_rng(0)
  base = tiny.make_batch([0] * 8)
  loss = np.inf
  for _ in range(3000):
    batch = {**base, "chunk": jnp.asarray(rng.integers(0, 5, 8), jnp.int32)}
    state, metrics = step(state, batch, jax.random.key(1))
    loss = float(metrics["train/loss"])
    if loss < 0.05:
      break
  assert loss < 0.1
