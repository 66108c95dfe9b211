import json
import warnings

import numpy as np
import pytest

from evaluation import frechet, moments
from tests.shared import shared_dir


def draw(seed, count, width, rank=None):
  random = np.random.RandomState(seed)
  x = random.randn(count, rank or width) @ random.randn(rank or width, width)
  return (x + random.randn(width)).astype(np.float32)


def trace(m):
  return np.trace(m.covariance)


def test_the_distance_equals_the_references():
  folder = shared_dir("golden", "evaluation")
  known = json.loads((folder / "features_d64_n2000.json").read_text())
  features = np.load(folder / "features_d64_n2000.npz")
  a, b = moments.of(features["x"]), moments.of(features["y"])
  np.testing.assert_allclose(a.mean, features["mu_x"], rtol=1e-12)
  np.testing.assert_allclose(a.covariance, features["sigma_x"], atol=1e-12)
  found = frechet.distance(a, b)
  for name in ("fid_sym_eigh_float64", "fid_pytorchfid_scipy_sqrtm"):
    assert abs(found / known[name] - 1) < 1e-9


def test_gaussians_that_commute_have_the_closed_form():
  random = np.random.RandomState(0)
  basis, _ = np.linalg.qr(random.randn(9, 9))
  first, second = random.uniform(0.1, 4, 9), random.uniform(0.1, 4, 9)
  mean = random.randn(9)
  expected = mean @ mean + ((first**0.5 - second**0.5) ** 2).sum()
  found = frechet.gaussians(
    mean, basis * first @ basis.T, 0 * mean, basis * second @ basis.T
  )
  np.testing.assert_allclose(found, expected, rtol=1e-12)
  # One dimension: (mu1 - mu2)^2 + (s1 - s2)^2.
  found = frechet.gaussians([1.0], [[4.0]], [3.0], [[9.0]])
  np.testing.assert_allclose(found, 5.0, rtol=1e-12)


@pytest.mark.parametrize("count", [60, 1000])
def test_a_set_has_no_distance_to_itself(count):
  a = moments.of(draw(1, count, 200))
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", frechet.SmallSampleWarning)
    assert frechet.distance(a, a) < 1e-6 * trace(a)
  # As computed: what is below zero is not hidden by the clipping.
  found, traces = frechet._unclipped(*2 * (a.mean, a.covariance))
  assert abs(found) < 1e-6 * trace(a) and traces == 2 * trace(a)


def test_what_is_no_covariance_is_not_hidden_by_clipping():
  mean, eye = np.zeros(4), np.eye(4)
  wrong = np.diag([1.0, 1.0, 1.0, -4.0])
  with pytest.raises(moments.FeatureError, match="is -3, below zero"):
    frechet.gaussians(mean, wrong, mean, eye)


def test_the_distance_is_symmetric():
  a, b = moments.of(draw(1, 99, 20)), moments.of(draw(2, 150, 20))
  np.testing.assert_allclose(
    frechet.distance(a, b), frechet.distance(b, a), rtol=1e-9
  )


@pytest.mark.parametrize(
  "first, second", [(90, 70), (4, 5), (119, 120), (4, 400), (400, 70)]
)
def test_singular_covariances_agree_with_singular_values(first, second):
  sets, factors = [], []
  for seed, count in ((3, first), (4, second)):
    x = np.float64(draw(seed, count, 120))
    sets.append(moments.merged(moments.of(part) for part in (x[:3], x[3:])))
    factors.append((x - x.mean(0)).T / np.sqrt(count - 1))
  a, b = sets
  with pytest.warns(frechet.SmallSampleWarning):
    found = frechet.distance(a, b)
  # tr (A A^T B B^T)^(1/2) is the sum of the singular values of A^T B.
  root = np.linalg.svd(factors[0].T @ factors[1], compute_uv=False).sum()
  shift = a.mean - b.mean
  expected = shift @ shift + trace(a) + trace(b) - 2 * root
  assert abs(found / expected - 1) < 1e-9


def test_sets_without_spread_have_the_distance_of_their_means():
  zero, eye = np.zeros((4, 4)), np.eye(4)
  mean = np.ones(4)
  assert frechet.gaussians(mean, zero, 0 * mean, zero) == 4
  assert frechet.gaussians(mean, zero, 0 * mean, eye) == 8
  assert frechet.gaussians(mean, eye, 0 * mean, zero) == 8


def test_few_samples_warn_and_name_the_bias():
  a, b = moments.of(draw(1, 20, 20)), moments.of(draw(2, 50, 20))
  with pytest.warns(
    frechet.SmallSampleWarning, match="first set has 20 examples for 20"
  ) as caught:
    frechet.distance(a, b)
  assert len(caught) == 1 and "biased upwards" in str(caught[0].message)


def test_bad_moments_are_named():
  a, b = moments.of(draw(1, 50, 5)), moments.of(draw(1, 50, 6))
  with pytest.raises(moments.FeatureError, match="widths 5 and 6"):
    frechet.distance(a, b)
  with pytest.raises(moments.FeatureError, match="not finite"):
    frechet.gaussians(a.mean, a.covariance * np.nan, a.mean, a.covariance)
  with pytest.raises(moments.FeatureError, match=r"not \[d\] and \[d, d\]"):
    frechet.gaussians(a.mean, a.covariance[:3], a.mean, a.covariance)
