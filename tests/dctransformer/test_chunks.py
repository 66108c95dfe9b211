"""Chunks cover a list exactly once, are drawn as planned, and see no more."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dctransformer import chunks, dct, sparse

_CODEC = dct.Codec(8, 75, 2, 4)
_PLAN = chunks.Plan(chunk_len=5, overlap=3, max_chunks=4)
_slice = jax.jit(lambda e, k: chunks.slice_chunk(_CODEC, _PLAN, e, k))


def _elements(total, room=_PLAN.max_elements):
  """Recognisable lists: element l is (l + 1, l + 101, -(l + 1))."""
  total = np.atleast_1d(total)
  slot = np.arange(room)
  length = np.minimum(total, room)
  held = slot < length[:, None]
  return sparse.Elements(
    channel=np.where(held, slot + 1, 0).astype(np.int32),
    position=np.where(held, slot + 101, 0).astype(np.int32),
    value=np.where(held, -slot - 1, 0).astype(np.int32),
    length=length.astype(np.int32),
    total=total.astype(np.int32),
  )


def _count(total):
  elements = _elements(total)
  return int(chunks.num_chunks(_PLAN, elements.length, elements.total)[0])


@pytest.mark.parametrize(
  ("total", "expected"),
  [(0, 1), (4, 1), (5, 2), (9, 2), (10, 3), (19, 4), (20, 4), (21, 4), (99, 4)],
)
def test_number_of_chunks_has_room_for_the_stop(total, expected):
  assert _count(total) == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 30))
def test_chunks_cover_the_list_and_its_stop_exactly_once(total):
  count = _count(total)
  cut = _slice(_elements([total] * 4), np.arange(4))
  cut = jax.tree.map(lambda x: np.asarray(x)[:count], cut)
  length = min(total, _PLAN.max_elements)
  new = cut.count_element
  np.testing.assert_array_equal(cut.channel[new], np.arange(length) + 1)
  np.testing.assert_array_equal(cut.position[new], np.arange(length) + 101)
  np.testing.assert_array_equal(cut.value[new], -np.arange(length) - 1)
  stops = cut.count_channel & ~cut.count_element
  complete = total < _PLAN.max_elements
  assert stops.sum() == complete
  assert (cut.channel[stops] == _CODEC.stop).all()
  assert ((cut.channel == _CODEC.stop) == stops).all()
  np.testing.assert_array_equal(cut.start, 5 * np.arange(count))


def test_a_list_that_was_cut_has_no_stop():
  elements = _elements([10] * 4).replace(total=np.full(4, 11, np.int32))
  count = chunks.num_chunks(_PLAN, elements.length, elements.total)
  assert count.tolist() == [2] * 4
  cut = _slice(elements, np.arange(4))
  assert not (cut.channel == _CODEC.stop).any()
  assert int(cut.count_channel.sum()) == 10


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 30), st.integers(0, 3))
def test_inputs_are_the_elements_before(total, chunk):
  if chunk >= _count(total):
    return
  cut = jax.tree.map(
    lambda x: np.asarray(x)[0],
    _slice(_elements([total] * 4), np.full(4, chunk)),
  )
  length = min(total, _PLAN.max_elements)
  for s in range(8):
    slot = 5 * chunk - 3 + s
    stop = slot == length == total
    shown = 0 <= slot < length or stop
    assert cut.visible[s] == shown
    assert cut.count_channel[s] == (shown and s >= 3)
    assert cut.count_element[s] == (shown and s >= 3 and not stop)
    target = (cut.channel[s], cut.position[s], cut.value[s])
    before = (
      cut.previous_channel[s],
      cut.previous_position[s],
      cut.previous_value[s],
    )
    if stop:
      assert target == (_CODEC.stop, 0, 0)
    elif shown:
      assert target == (slot + 1, slot + 101, -slot - 1)
    if not shown:
      assert target == before == (0, 0, 0)
    elif slot == 0:
      assert before == (_CODEC.start, 0, 0)
    else:
      assert before == (slot, slot + 100, -slot)


def test_rows_of_a_batch_are_cut_on_their_own():
  totals, chunk = np.array([7, 19, 30, 0]), np.array([1, 3, 0, 0])
  cut = _slice(_elements(totals), chunk)
  for row in range(4):
    alone = _slice(_elements(totals[[row] * 4]), chunk[[row] * 4])
    jax.tree.map(
      lambda x, y, row=row: np.testing.assert_array_equal(x[row], y[0]),
      cut,
      alone,
    )


def test_overlap_may_be_absent():
  plan = chunks.Plan(chunk_len=5, overlap=0, max_chunks=4)
  cut = chunks.slice_chunk(_CODEC, plan, _elements(12), np.array([1]))
  assert cut.channel.shape == (1, 5)
  assert int(cut.previous_channel[0, 0]) == 5


@pytest.mark.parametrize("floor", [0.1, 1.0])
def test_draws_follow_the_formula_and_reach_every_chunk(floor):
  plan = chunks.Plan(max_chunks=12, exponent=3.0, floor=floor)
  u = np.random.default_rng(0).random(40_000, dtype=np.float32)
  for count in (1, 2, 5, 12):
    k = np.arange(count)
    weight = np.maximum((1 - k / count) ** 3, floor)
    expected = weight / weight.sum()
    drawn = chunks.draw(plan, u, np.full(len(u), count))
    frequency = np.bincount(drawn, minlength=count) / len(u)
    assert len(frequency) == count
    np.testing.assert_allclose(frequency, expected, atol=0.01)
    np.testing.assert_allclose(
      chunks.probabilities(plan)[count, :count], expected
    )


@pytest.mark.parametrize("max_chunks", [1, 7, 77])
def test_the_largest_number_below_one_draws_the_last_chunk(max_chunks):
  plan = chunks.Plan(max_chunks=max_chunks)
  counts = np.arange(1, max_chunks + 1)
  largest = np.full(max_chunks, np.nextafter(np.float32(1), np.float32(0)))
  np.testing.assert_array_equal(chunks.draw(plan, largest, counts), counts - 1)
  assert not chunks.draw(plan, 0 * largest, counts).any()


def test_drawing_is_the_same_in_jax():
  plan = chunks.Plan(max_chunks=9)
  generator = np.random.default_rng(1)
  u = generator.random(500, dtype=np.float32)
  counts = generator.integers(1, 10, 500)
  drawn = jax.jit(lambda u, n: chunks.draw(plan, u, n))(u, counts)
  np.testing.assert_array_equal(drawn, chunks.draw(plan, u, counts))


def test_importance_weights_make_the_mean_over_chunks_unbiased():
  plan = chunks.Plan(max_chunks=6)
  loss = np.random.default_rng(0).random(6)
  for count in range(1, 7):
    k = np.arange(count)
    weight = np.asarray(chunks.importance(plan, k, np.full(count, count)))
    chance = chunks.probabilities(plan)[count, :count]
    assert np.sum(chance * weight) == pytest.approx(1, abs=1e-6)
    estimate = np.sum(chance * weight * loss[:count])
    assert estimate == pytest.approx(loss[:count].mean(), abs=1e-6)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"chunk_len": 0}, "chunk_len 0 and max_chunks 1 must be at least 1"),
    ({"max_chunks": 0}, "max_chunks 0 must be at least 1"),
    ({"chunk_len": 5, "overlap": 6}, "overlap 6 must be between 0 and"),
    ({"floor": 0.0}, "floor 0.0 must be in"),
    ({"exponent": -1.0}, "exponent -1.0 at least 0"),
  ],
)
def test_a_wrong_plan_says_what_is_wrong(fields, message):
  with pytest.raises(ValueError, match=message):
    chunks.Plan(**fields)


def test_lists_without_the_plans_room_are_refused():
  with pytest.raises(ValueError, match=r"must be \[b, 20\]"):
    chunks.slice_chunk(_CODEC, _PLAN, _elements(3, room=19), np.array([0]))
