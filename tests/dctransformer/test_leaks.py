"""Nothing before an element of the batch learns of it, through the steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.dctransformer import tiny, watch

CHUNKS = (1, 2, 4)
FIELDS = ("channel", "position", "value")
# Slots, from the element's own on, whose logits must not see its field.
BLIND = {
  "channel": {"channel": 1, "position": 0, "value": 0},
  "position": {"channel": 1, "position": 1, "value": 0},
  "value": {"channel": 1, "position": 1, "value": 1},
}


@pytest.fixture(scope="module", params=["train_step", "eval_step"])
def look(request):
  """Return a function of a batch: (coefficients, tokens, logits) of a step."""
  task = tiny.make_task()
  state, seen = tiny.init_task(task), []
  step = jax.jit(getattr(task, request.param))

  def look(batch):
    seen.clear()
    with watch.calls(seen, "encode", "__call__"):
      jax.block_until_ready(step(state, batch, jax.random.key(0)))
    (_, (coefficients, *_), tokens), (_, _, logits) = seen
    return coefficients, tokens, logits

  return look


@functools.cache
def _batch():
  batch = tiny.make_batch(CHUNKS)
  assert (batch["length"] == tiny.PLAN.max_elements).all()
  return {**batch, "mask": jnp.ones(len(CHUNKS), bool)}


def _index(offset):
  """Return the list index of the chunks' new element `offset`, [b]."""
  return np.array(CHUNKS) * tiny.PLAN.chunk_len + offset


def _change(index, *fields):
  """Return the batch with other fields of the elements `index`, [b] or [b, n].

  All stay in their ranges.
  """
  batch = dict(_batch())
  rows = np.arange(len(CHUNKS)).reshape(-1, *(1,) * (index.ndim - 1))
  for field in fields:
    leaf = np.array(batch[field])
    old = leaf[rows, index]
    leaf[rows, index] = {
      "channel": (old + 7) % tiny.CODEC.num_channels,
      "position": (old + 3) % tiny.CODEC.num_positions,
      "value": np.where(old == 5, -9, 5),
    }[field]
    batch[field] = jnp.asarray(leaf)
  return batch


def _moved(a, b):
  """Say which slots' logits differ in every row, and in any: bool [t] each."""
  differs = np.abs(a - b).max(axis=-1) > 1e-7
  return differs.all(axis=0), differs.any(axis=0)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("offset", [0, 5, tiny.PLAN.chunk_len - 1])
def test_an_element_reaches_only_what_follows_it(look, offset, field):
  coefficients, tokens, logits = look(_batch())
  other = look(_change(_index(offset), field))
  np.testing.assert_array_equal(other[0], coefficients)
  np.testing.assert_array_equal(other[1], tokens)
  slot = tiny.PLAN.overlap + offset
  for name, blind in BLIND[field].items():
    every, some = _moved(getattr(logits, name), getattr(other[2], name))
    assert not some[: slot + blind].any(), name
    assert every[slot + blind :].all(), name


def test_the_rest_of_the_chunk_reaches_nothing_before_it(look):
  coefficients, tokens, logits = look(_batch())
  offset = 3
  rest = np.arange(offset, tiny.PLAN.chunk_len)
  index = _index(0)[:, None] + rest
  other = look(_change(index, *FIELDS))
  np.testing.assert_array_equal(other[0], coefficients)
  np.testing.assert_array_equal(other[1], tokens)
  slot = tiny.PLAN.overlap + offset
  for name in FIELDS:
    _, some = _moved(getattr(logits, name), getattr(other[2], name))
    assert not some[:slot].any(), name
  # The channel is decided before anything of the element itself.
  _, some = _moved(logits.channel, other[2].channel)
  assert not some[slot] and some[slot + 1 :].all()


def test_the_element_before_a_chunk_reaches_all_of_it(look):
  coefficients, tokens, logits = look(_batch())
  other = look(_change(_index(-1), "value"))
  changed = (other[0] != coefficients).reshape(len(CHUNKS), -1).sum(axis=1)
  np.testing.assert_array_equal(changed, 1)
  assert (other[1] != tokens).any(axis=(1, 2)).all()
  for name in FIELDS:
    every, _ = _moved(getattr(logits, name), getattr(other[2], name))
    assert every[tiny.PLAN.overlap :].all(), name
