"""Sampling: equal to teacher forcing, exact prefixes, independent samples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dctransformer import chunks, dct, decode, moves, sparse
from layers import logits as logits_lib
from tests.dctransformer import tiny

B = 4


@pytest.fixture(scope="module")
def setup():
  """Return (task, state, run): run(keys, condition, settings) -> Samples."""
  task = tiny.make_task()
  state = tiny.init_task(task)
  # A random model jumps to the end of the order at once: favour small steps.
  head = state.params["params"]["channel_head"]
  rank = sparse.visit_rank(task.codec)
  head["bias"] = jnp.append(-0.5 * rank, -40.0).astype(jnp.float32)
  return task, state, jax.jit(functools.partial(task.sample, state))


def _condition(task, prefix=None, label=0):
  empty = decode.empty_prefix(B, task.plan.max_elements)
  return decode.Condition(
    label=jnp.full((B,), label, jnp.int32),
    blocks=jnp.array([[4, 4], [4, 4], [2, 4], [4, 2]], jnp.int32),
    prefix=empty if prefix is None else prefix,
  )


def _keys(seed=0):
  return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(
    jnp.arange(B)
  )


def _settings(**kwargs):
  return decode.Settings.create(**kwargs)


def test_samples_equal_teacher_forced_draws_at_every_slot(setup):
  # Recompute every draw from uncached logits of the sampled list, chunk by
  # chunk, with the same keys: one wrong cache entry and a draw differs.
  task, state, run = setup
  condition, keys = _condition(task), _keys()
  sampled = run(keys, condition, _settings()).tokens
  assert int(sampled.length.max()) > 2 * task.plan.chunk_len

  forward = jax.jit(
    lambda chunk, coefficients: task.model.apply(
      state.params,
      chunk,
      coefficients,
      state.frozen["channel_std"],
      condition.label,
      condition.blocks,
    )
  )
  complete = sampled.replace(
    total=jnp.where(
      sampled.length < task.plan.max_elements, sampled.length, 999
    )
  )
  compared = 0
  for k in range(task.plan.max_chunks):
    index = jnp.full((B,), k)
    chunk = chunks.slice_chunk(task.codec, task.plan, complete, index)
    coefficients = sparse.to_coefficients(task.codec, complete, chunk.start)
    out = forward(chunk, coefficients)
    for j in range(task.plan.chunk_len):
      slot, l = task.plan.overlap + j, k * task.plan.chunk_len + j
      key = jax.vmap(
        lambda key, l=l: jax.random.split(jax.random.fold_in(key, l), 3)
      )(keys)
      at = lambda x, slot=slot: x[:, slot]
      before = at(chunk.previous_channel), at(chunk.previous_position)
      legal = moves.legal_channels(task.codec, *before, condition.blocks)
      channel = logits_lib.draw(
        key[:, 0], logits_lib.exclude(at(out.channel), legal)
      )
      legal = moves.legal_positions(
        task.codec, at(chunk.channel), *before, condition.blocks
      )
      position = logits_lib.draw(
        key[:, 1], logits_lib.exclude(at(out.position), legal)
      )
      value = dct.class_value(
        task.codec, logits_lib.draw(key[:, 2], at(out.value))
      )
      new, whole = at(chunk.count_channel), at(chunk.count_element)
      np.testing.assert_array_equal(channel[new], at(chunk.channel)[new])
      np.testing.assert_array_equal(position[whole], at(chunk.position)[whole])
      np.testing.assert_array_equal(value[whole], at(chunk.value)[whole])
      compared += int(new.sum())
  assert compared >= int(sampled.length.sum())


def test_samples_are_sorted_and_inside_the_image(setup):
  task, _, run = setup
  condition = _condition(task)
  tokens = run(_keys(), condition, _settings()).tokens
  rank = sparse.visit_rank(task.codec)
  for i in range(B):
    n = int(tokens.length[i])
    channel, position = tokens.channel[i, :n], tokens.position[i, :n]
    order = rank[channel] * task.codec.num_positions + position
    assert (np.diff(order) > 0).all()
    row, col = position // task.codec.cols, position % task.codec.cols
    assert (row < condition.blocks[i, 0]).all()
    assert (col < condition.blocks[i, 1]).all()
    chroma = channel >= task.codec.block**2
    assert (row[chroma] % 2 == 0).all() and (col[chroma] % 2 == 0).all()
    assert (tokens.value[i, :n] != 0).all()
    assert (tokens.value[i, n:] == 0).all()


def test_prefix_comes_back_exactly(setup):
  task, _, run = setup
  coefficients = dct.to_coefficients(task.codec, tiny.make_images(B))
  prefix = sparse.to_elements(task.codec, coefficients, task.plan.max_elements)
  lengths = jnp.array(
    [0, 7, 14, 60], jnp.int32
  )  # none, in a chunk, across, everything
  kept = jnp.arange(task.plan.max_elements) < lengths[:, None]
  cut = lambda x: jnp.where(kept, x, 0)
  prefix = sparse.Elements(
    cut(prefix.channel),
    cut(prefix.position),
    cut(prefix.value),
    lengths,
    lengths,
  )
  condition = _condition(task, prefix).replace(
    blocks=jnp.full((B, 2), 4, jnp.int32)
  )
  tokens = run(_keys(), condition, _settings()).tokens
  for name in ("channel", "position", "value"):
    given, got = getattr(prefix, name), getattr(tokens, name)
    np.testing.assert_array_equal(cut(got), given)
  assert (tokens.length >= lengths).all()
  assert int(tokens.length[3]) == 60


def test_a_sample_depends_on_its_own_key_only(setup):
  task, _, run = setup
  condition = _condition(task).replace(blocks=jnp.full((B, 2), 4, jnp.int32))
  one = run(_keys(), condition, _settings()).tokens
  order = jnp.array([2, 0, 3, 1])
  other = run(_keys()[order], condition, _settings()).tokens
  jax.tree.map(
    np.testing.assert_array_equal, jax.tree.map(lambda x: x[order], one), other
  )


def test_a_stop_in_one_sample_does_not_stop_the_others(setup):
  task, _, run = setup
  samples = run(_keys(3), _condition(task), _settings())
  assert len(set(np.asarray(samples.tokens.length).tolist())) > 1


def test_zero_temperature_ignores_the_keys(setup):
  task, _, run = setup
  condition = _condition(task)
  one, other = (
    run(_keys(seed), condition, _settings(temperature=0.0)).tokens
    for seed in (0, 1)
  )
  jax.tree.map(np.testing.assert_array_equal, one, other)
  top = run(_keys(5), condition, _settings(top_k=1)).tokens
  jax.tree.map(np.testing.assert_array_equal, one, top)


def test_changing_settings_compiles_nothing_anew(setup):
  task, _, run = setup
  run(_keys(), _condition(task), _settings())
  size = run._cache_size()
  run(_keys(7), _condition(task, label=2), _settings(temperature=0.5, top_k=3))
  assert run._cache_size() == size


def test_guidance_of_one_is_the_labelled_model(setup):
  task, state, run = setup
  condition = _condition(task, label=1)
  guided = jax.jit(functools.partial(task.sample, state, guided=True))
  plain = run(_keys(), condition, _settings()).tokens
  same = guided(_keys(), condition, _settings(guidance=1.0)).tokens
  null = guided(_keys(), condition, _settings(guidance=0.0)).tokens
  unlabelled = run(
    _keys(), _condition(task, label=task.model.num_classes), _settings()
  ).tokens
  jax.tree.map(np.testing.assert_array_equal, plain, same)
  jax.tree.map(np.testing.assert_array_equal, unlabelled, null)


def test_illegal_mass_is_that_of_the_logits(setup):
  # Everything outside a 2 x 4 image is illegal: a random model puts about
  # half of the position's mass there and more on order and parity.
  task, _, run = setup
  info = run(_keys(), _condition(task), _settings()).info
  assert (info["illegal_position"] > 0.3).all()
  assert (info["illegal_channel"] > 0.1).all()


@pytest.mark.parametrize(
  "bad", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}]
)
def test_settings_out_of_range_are_refused(bad):
  with pytest.raises(ValueError, match=next(iter(bad))):
    _settings(**bad)
