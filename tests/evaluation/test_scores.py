"""Inception Score, precision, recall, density, coverage and KID."""

import functools
import json

import numpy as np
import pytest

from evaluation import inception_score, kid, manifold, moments
from tests.shared import shared_dir


@functools.cache
def golden():
  folder = shared_dir("golden", "evaluation")
  known = json.loads((folder / "features_d64_n2000.json").read_text())
  return known, np.load(folder / "features_d64_n2000.npz")


def test_inception_scores_equal_the_references():
  known, arrays = golden()
  logits = arrays["logits"]
  np.testing.assert_allclose(
    inception_score.adm(logits), known["is_adm_split5000"], rtol=1e-12
  )
  for shuffle, name in ((True, "shuffle2020"), (False, "noshuffle")):
    score = known[f"isc_torchfidelity_splits10_{name}"]
    np.testing.assert_allclose(
      inception_score.torch_fidelity(logits, shuffle=shuffle),
      (score["inception_score_mean"], score["inception_score_std"]),
      rtol=1e-12,
    )


def test_the_last_partial_split_counts():
  logits = np.random.RandomState(0).randn(25, 8)
  parts = [inception_score.adm(logits[i : i + 10]) for i in (0, 10, 20)]
  found = inception_score.adm(logits, split=10)
  np.testing.assert_allclose(found, np.mean(parts), rtol=1e-12)


def test_inception_score_has_its_extremes():
  one = np.full((10, 5), -1e4)
  one[:, 2] = 0
  np.testing.assert_allclose(inception_score.adm(one), 1)
  each = np.full((5, 5), -1e4)
  np.fill_diagonal(each, 0)
  np.testing.assert_allclose(inception_score.adm(each), 5)


def test_precision_and_recall_equal_the_references_exactly():
  known, arrays = golden()
  for k in (3, 5):
    expected = known[f"prdc_k{k}_clovaai"]
    found = manifold.precision_recall(arrays["x"], arrays["y"], k=k)
    assert found.precision == expected["precision"]
    assert found.recall == expected["recall"]
    found = manifold.density_coverage(arrays["x"], arrays["y"], k=k)
    np.testing.assert_allclose(found.density, expected["density"], rtol=1e-12)
    assert found.coverage == expected["coverage"]
  found = manifold.precision_recall(arrays["x"], arrays["y"])
  assert [found.precision, found.recall] == known["pr_adm_k3_float64"]


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_the_block_size_does_not_matter(block):
  random = np.random.RandomState(0)
  x = random.randn(150, 30).astype(np.float32)
  y = np.concatenate([random.randn(60, 30), x[:60]]).astype(np.float32)
  assert manifold.precision_recall(
    x, y, block=block
  ) == manifold.precision_recall(x, y)
  assert manifold.density_coverage(
    x, y, block=block
  ) == manifold.density_coverage(x, y)


def test_the_radius_leaves_the_point_itself_out():
  x = np.array([[0.0], [1.0], [3.0], [6.0]])
  np.testing.assert_array_equal(manifold._radii(x, 1, 3), [1, 1, 4, 9])
  # On the sphere: inside for precision, outside for coverage.
  y = np.array([[9 + 3.0], [40.0]])
  x = np.array([[0.0], [3.0], [6.0], [9.0]])
  assert manifold.precision_recall(x, y, k=1).precision == 0.5
  assert manifold.density_coverage(x, y, k=1).density == 0


def test_a_collapsed_model_has_precision_without_recall():
  random = np.random.RandomState(0)
  real = random.randn(300, 8)
  fake = real[:1] + 1e-3 * random.randn(300, 8)
  found = manifold.precision_recall(real, fake)
  assert found.precision == 1 and found.recall < 0.05


def test_kid_equals_the_reference():
  known, arrays = golden()
  known = known["kid_torchfidelity"]
  # It was made with 10 subsets of 500, in float32.
  found = kid.distance(arrays["y"], arrays["x"], subsets=10, size=500)
  np.testing.assert_allclose(
    found.mean, known["kernel_inception_distance_mean"], atol=5e-7
  )
  np.testing.assert_allclose(
    found.std, known["kernel_inception_distance_std"], atol=5e-7
  )


def test_kid_is_unbiased():
  random = np.random.RandomState(1)
  values = [
    kid._squared_mmd(random.randn(20, 4), random.randn(20, 4))
    for _ in range(1000)
  ]
  assert abs(np.mean(values)) < 3 * np.std(values) / 1000**0.5


def test_too_few_and_unlike_features_are_named():
  x, y = np.zeros((3, 4)), np.zeros((9, 4))
  with pytest.raises(moments.FeatureError, match="3 examples have no neigh"):
    manifold.precision_recall(x, y)
  with pytest.raises(moments.FeatureError, match="3 examples do not make"):
    kid.distance(x, y)
  with pytest.raises(moments.FeatureError, match="3 images do not make 10"):
    inception_score.torch_fidelity(x)
  for score in (manifold.precision_recall, manifold.density_coverage):
    with pytest.raises(moments.FeatureError, match="widths 4 and 5"):
      score(y, np.zeros((9, 5)))
    with pytest.raises(moments.FeatureError, match="not finite"):
      score(y, y * np.nan)
