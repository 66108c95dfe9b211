"""GPT over codes: who sees what, the prefix, caches, parameter counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.vqgan import tiny_prior
from vqgan import prior

# Which of four tokens lies at each of twelve codes.
_BESIDE = (2, 0, 1, 3, 3, 1, 0, 2, 2, 1, 3, 0)


def _sensitivity(model, num_tokens):
  """Return which logits each input moves, by gradients of the embeddings.

  Returns:
    bool [l, s]: whether the logits of code t depend on the input of slot s.
  """
  codes, condition, label = tiny_prior.inputs(model, 1, 6, num_tokens)
  params = tiny_prior.init(model, codes, condition, label)
  table = params["params"]["positions"]["table"]

  def logits(table):
    params["params"]["positions"]["table"] = table
    return jnp.sum(model.apply(params, codes, condition, label)[0], axis=-1)

  moved = jax.jit(jax.jacrev(lambda x: jnp.square(logits(x))))(table)
  return np.abs(np.asarray(moved)).max(-1) > 0


@pytest.mark.parametrize("classes", ["token", "added", "both"])
@pytest.mark.parametrize("beside", [(), (2, 0, 1, 1, 0, 2)])
def test_code_depends_on_prefix_and_earlier_codes_only(classes, beside):
  model = tiny_prior.make(
    num_conditions=5, num_classes=3, classes=classes, beside=beside
  )
  prefix = model.prefix_length(3)
  assert prefix == (3 if classes == "added" else 4)
  moved = _sensitivity(model, 3)
  slots = np.arange(model.length)
  expected = slots[None] < prefix + np.arange(6)[:, None]
  np.testing.assert_array_equal(moved, expected)


def test_unmasked_prefix_sees_itself_in_both_directions():
  model = tiny_prior.make(num_conditions=5, n_unmasked=4, layers=1)
  codes, condition, _ = tiny_prior.inputs(model, 1, 3, 4)
  params = tiny_prior.init(model, codes, condition)
  run = lambda model, condition: model.apply(
    params, codes[:, :0], condition, None, method="prefill"
  )[1]
  other = condition.at[0, 3].set((condition[0, 3] + 1) % 5)
  deeper = model.clone(layers=2)
  params = tiny_prior.init(deeper, codes, condition)
  # Keys of the second layer tell what the first layer's slots have read.
  read = lambda condition: run(deeper, condition)[0][0][1, 0]  # [s, n, k]
  moved = np.abs(np.asarray(read(condition) - read(other))).max((1, 2)) > 1e-6
  assert moved.all()
  causal = deeper.clone(n_unmasked=0)
  read = lambda condition: run(causal, condition)[0][0][1, 0]
  moved = np.abs(np.asarray(read(condition) - read(other))).max((1, 2)) > 1e-6
  np.testing.assert_array_equal(moved, [False, False, False, True])


def test_unmasked_slots_must_not_reach_the_codes():
  model = tiny_prior.make(num_conditions=5, n_unmasked=4)
  codes, condition, _ = tiny_prior.inputs(model, 1, 3, 3)
  with pytest.raises(ValueError, match="n_unmasked 4 must not exceed the 3"):
    tiny_prior.init(model, codes, condition)


def test_sequence_beyond_the_positions_raises():
  model = tiny_prior.make(length=7)
  codes, _, _ = tiny_prior.inputs(model, 1, 8)
  with pytest.raises(ValueError, match="8 slots are more than the 7"):
    tiny_prior.init(model, codes)


def test_missing_label_raises():
  model = tiny_prior.make(num_classes=3)
  codes, _, _ = tiny_prior.inputs(model, 1, 8)
  with pytest.raises(ValueError, match="3 classes needs labels"):
    tiny_prior.init(model, codes)


@pytest.mark.parametrize(
  "changes",
  [
    {},
    {"num_classes": 3, "num_conditions": 5},
    {"num_classes": 3, "classes": "token", "shared": True, "n_unmasked": 5},
    {"num_conditions": 5, "beside": _BESIDE},
    {"num_classes": 3, "num_conditions": 5, "beside": _BESIDE, "n_unmasked": 5},
  ],
)
def test_cached_steps_equal_the_whole_sequence(changes):
  model = tiny_prior.make(**changes)
  num_tokens = 4 if changes else 0
  codes, condition, label = tiny_prior.inputs(model, 2, 12, num_tokens)
  params = tiny_prior.init(model, codes, condition, label)
  whole = model.apply(params, codes, condition, label)  # [b, l, v]
  known = 3
  logits, cache = model.apply(
    params, codes[:, :known], condition, label, method="prefill"
  )
  prefix = model.prefix_length(num_tokens)
  widths = [(0, 0), (0, 0), (0, 12 - known), (0, 0), (0, 0)]
  cache = jax.tree.map(lambda x: jnp.pad(x, widths), cache)
  rows = [logits]
  step = jax.jit(
    lambda code, slot, cache: model.apply(
      params, code, slot, condition, label, cache, method="step"
    )
  )
  for t in range(known, 11):
    logits, cache = step(codes[:, t], prefix + t, cache)
    rows.append(logits)
  stepped = jnp.stack(rows, axis=1)
  np.testing.assert_allclose(stepped, whole[:, known:], atol=2e-5)


def test_start_token_stands_for_an_empty_prefix():
  model = tiny_prior.make(shared=True)
  codes, _, _ = tiny_prior.inputs(model, 2, 5)
  params = tiny_prior.init(model, codes)
  given = jnp.zeros((2, 1), jnp.int32)
  np.testing.assert_array_equal(
    model.apply(params, codes), model.apply(params, codes, given)
  )


def test_added_class_reaches_every_slot():
  model = tiny_prior.make(num_classes=3, classes="added", layers=0)
  codes, _, _ = tiny_prior.inputs(model, 1, 5)
  params = tiny_prior.init(model, codes, None, jnp.zeros(1, jnp.int32))
  run = lambda label: model.apply(params, codes, None, jnp.asarray([label]))
  # Without a layer a slot's logits are a function of its own input.
  assert (np.abs(run(0) - run(1)).max(-1) > 1e-3).all()


def test_token_beside_a_code_reaches_the_slot_that_predicts_it():
  model = tiny_prior.make(num_conditions=5, beside=_BESIDE, layers=0)
  codes, condition, _ = tiny_prior.inputs(model, 1, 12, 4)
  params = tiny_prior.init(model, codes, condition)
  # Token 3 is the last slot of the prefix, which predicts the first code.
  for token in range(3):
    other = condition.at[0, token].set((condition[0, token] + 1) % 5)
    run = lambda condition: model.apply(params, codes, condition)[0]
    moved = np.abs(np.asarray(run(condition) - run(other))).max(-1) > 1e-3
    np.testing.assert_array_equal(moved, np.equal(_BESIDE, token))
  with pytest.raises(ValueError, match="needs a condition"):
    model.apply(params, codes)


@pytest.mark.parametrize("classes", ["token", "added"])
def test_condition_told_beside_the_codes_alone_has_no_prefix(classes):
  model = tiny_prior.make(
    num_conditions=5,
    num_classes=3,
    classes=classes,
    beside=_BESIDE,
    prefixed=False,
  )
  assert model.prefix_length(4) == 1
  codes, condition, label = tiny_prior.inputs(model, 1, 12, 4)
  params = tiny_prior.init(model, codes, condition, label)
  assert "condition_table" not in params["params"]
  run = lambda condition: model.apply(params, codes, condition, label)[0]
  for token in range(4):
    other = condition.at[0, token].set((condition[0, token] + 1) % 5)
    moved = np.abs(np.asarray(run(condition) - run(other))).max(-1) > 1e-6
    first = _BESIDE.index(token)
    np.testing.assert_array_equal(moved, np.arange(12) >= first)


def test_slots_that_predict_no_code_are_told_nothing_beside():
  model = tiny_prior.make(num_conditions=5, beside=_BESIDE, layers=1)
  codes, condition, _ = tiny_prior.inputs(model, 1, 12, 4)
  params = tiny_prior.init(model, codes, condition)

  def keys(table):
    inner = {**params["params"], "beside_table": {"embedding": table}}
    _, cache = model.apply(
      {"params": inner}, codes, condition, method="prefill"
    )
    return np.asarray(cache[0][0][0, 0])  # [s, n, k]

  table = params["params"]["beside_table"]["embedding"]
  moved = np.abs(keys(table) - keys(0 * table)).max((1, 2)) > 1e-3
  np.testing.assert_array_equal(moved, np.arange(16) >= 3)


def test_prior_that_is_told_by_its_prefix_alone_has_no_further_table():
  counts = {}
  for beside in ((), _BESIDE):
    model = tiny_prior.make(num_conditions=5, beside=beside)
    inputs = tiny_prior.inputs(model, 1, 12, 4)
    params = tiny_prior.init(model, *inputs)["params"]
    counts[beside] = sum(x.size for x in jax.tree.leaves(params))
    assert ("beside_table" in params) == bool(beside)
  assert counts[_BESIDE] == counts[()] + 5 * 16


def test_dropout_is_on_in_training_only():
  model = tiny_prior.make(dropout=0.5, layers=0)
  codes, _, _ = tiny_prior.inputs(model, 1, 5)
  params = tiny_prior.init(model, codes)
  run = lambda seed, train: model.apply(
    params, codes, train=train, rngs={"dropout": jax.random.key(seed)}
  )
  np.testing.assert_array_equal(run(0, False), run(1, False))
  assert np.abs(run(0, True) - run(1, True)).max() > 1e-3


# The published counts (Esser et al. 2021, Table 8, and the released files).
@pytest.mark.parametrize(
  ("layers", "width", "heads", "num_codes", "length", "count"),
  [
    (24, 1024, 16, 1024, 512, 304_932_864),
    (48, 1536, 24, 16384, 256, 1_410_640_896),
    (24, 1664, 16, 1024, 256, 801_798_400),
  ],
)
def test_parameter_counts_are_the_published_ones(
  layers, width, heads, num_codes, length, count
):
  model = prior.Prior(num_codes, length, layers, width, heads, shared=True)
  codes = jnp.zeros((1, 256), jnp.int32)
  shapes = jax.eval_shape(model.init, jax.random.key(0), codes)
  assert sum(x.size for x in jax.tree.leaves(shapes)) == count


def test_first_state_predicts_uniformly_and_positions_are_zero():
  model = tiny_prior.make(num_classes=3, num_conditions=5)
  codes, condition, label = tiny_prior.inputs(model, 2, 12, 4)
  params = model.init(jax.random.key(0), codes, condition, label)
  logits = model.apply(params, codes, condition, label)
  assert np.abs(np.asarray(logits)).max() < 0.5
  assert not np.asarray(params["params"]["positions"]["table"]).any()
  deviation = np.std(np.asarray(params["params"]["head"]["kernel"]))
  np.testing.assert_allclose(deviation, 0.02, rtol=0.25)
