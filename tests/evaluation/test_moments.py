import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import moments

X = (np.random.RandomState(0).randn(101, 7) * 3 + 1000).astype(np.float32)


def _assert_moments_of_x(found):
  exact = np.float64(X)
  assert found.count == len(X)
  np.testing.assert_allclose(found.mean, exact.mean(0), rtol=1e-12)
  covariance = np.cov(exact, rowvar=False)
  np.testing.assert_allclose(found.covariance, covariance, rtol=1e-10)


def test_moments_of_one_batch_are_numpys():
  _assert_moments_of_x(moments.of(X))


@settings(max_examples=40, deadline=None)
@given(
  cuts=st.lists(st.integers(0, len(X)), max_size=9),
  seed=st.integers(0, 9999),
  data=st.data(),
)
def test_any_split_merged_in_any_order_gives_the_same(cuts, seed, data):
  edges = [0, *sorted(cuts), len(X)]
  parts = [moments.of(X[a:b]) for a, b in itertools.pairwise(edges)]
  np.random.RandomState(seed).shuffle(parts)
  while len(parts) > 1:
    i = data.draw(st.integers(0, len(parts) - 2))
    parts[i : i + 2] = [parts[i].merge(parts[i + 1])]
  _assert_moments_of_x(parts[0])


@pytest.mark.parametrize("size", [1, 100, 1024, 1500, 5000])
def test_pieces_of_any_size_run_to_the_same_moments(size):
  x = (np.random.RandomState(1).randn(2500, 5) * 3 + 1000).astype(np.float32)
  running = moments.Running()
  assert running.moments() is None
  for start in range(0, len(x), size):
    running.add(x[start : start + size])
  found = running.moments()
  each = moments.merged(moments.of(x[i : i + 64]) for i in range(0, 2500, 64))
  assert found.count == each.count == 2500
  np.testing.assert_allclose(found.mean, each.mean, rtol=1e-12)
  scale = np.abs(each.scatter).max()
  np.testing.assert_allclose(found.scatter, each.scatter, atol=1e-12 * scale)
  # Where rows are cut does not depend on the pieces.
  whole = moments.Running()
  whole.add(x)
  np.testing.assert_array_equal(found.scatter, whole.moments().scatter)


def test_merging_nothing_changes_nothing():
  a = moments.of(X)
  assert a.merge(moments.empty(7)) is a
  assert moments.empty(7).merge(a) is a
  _assert_moments_of_x(
    moments.merged([moments.empty(7), moments.of(X[:9]), moments.of(X[9:])])
  )


def test_bad_features_are_named():
  bad = X.copy()
  bad[[5, 9], 3] = np.nan, np.inf
  with pytest.raises(
    moments.FeatureError, match=r"2 of 101 .* first example 5"
  ):
    moments.of(bad)
  with pytest.raises(moments.FeatureError, match=r"not \[b, d\]"):
    moments.of(X[0])
  with pytest.raises(moments.FeatureError, match="1 examples have no cov"):
    _ = moments.of(X[:1]).covariance
  with pytest.raises(moments.FeatureError, match="widths 7 and 3"):
    moments.of(X).merge(moments.of(X[:, :3]))
