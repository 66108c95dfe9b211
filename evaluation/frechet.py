"""The Frechet distance of two Gaussians: FID and sFID (Heusel et al. 2017).

d^2 = |mu1 - mu2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2).

With S1 = F F^T and S2 = G G^T, the eigenvalues of S1 S2 that are not zero are
those of the symmetric M M^T, M = F^T G, so that a symmetric eigenproblem
replaces the general matrix root: no eps is added to a diagonal and nothing is
ever complex. F and G are Cholesky factors, with pivots where a covariance is
singular: few examples then give few columns and a small problem. Letters: `d`
features, `r` the rank of a covariance.
"""

import warnings

import numpy as np
import scipy.linalg

from evaluation import moments

_NEGATIVE = 1e-6  # of the traces: no rounding any more


class SmallSampleWarning(UserWarning):
  """Fewer examples than features: the distance is biased upwards."""


def distance(a: moments.Moments, b: moments.Moments) -> float:
  """Returns the squared Frechet distance of two sets of features.

  Warns where a set has no more examples than features.

  Raises:
    FeatureError: Widths differ, or moments are not finite.
  """
  warn_if_small("first set", a.count, len(a.mean), stacklevel=3)
  warn_if_small("second set", b.count, len(b.mean), stacklevel=3)
  return gaussians(a.mean, a.covariance, b.mean, b.covariance)


def warn_if_small(
  name: str, count: int | None, width: int, stacklevel: int = 2
) -> None:
  """Warns where a covariance of `width` features has too few examples."""
  if count is not None and count <= width:
    warnings.warn(
      f"the {name} has {count} examples for {width} features: its covariance"
      " is singular and the Frechet distance is biased upwards, not comparable"
      " with published values",
      SmallSampleWarning,
      stacklevel=stacklevel,
    )


def gaussians(
  mean_a: np.ndarray,
  covariance_a: np.ndarray,
  mean_b: np.ndarray,
  covariance_b: np.ndarray,
) -> float:
  """Returns the squared Frechet distance of two Gaussians.

  Args:
    mean_a: [d].
    covariance_a: [d, d].
    mean_b: [d].
    covariance_b: [d, d].

  Raises:
    FeatureError: Shapes disagree, values are not finite, or the covariances
      are none: the distance is negative by more than rounding.
  """
  found, traces = _unclipped(mean_a, covariance_a, mean_b, covariance_b)
  # For equal sets rounding makes it about -1e-13 of the traces.
  if found < -_NEGATIVE * traces:
    raise moments.FeatureError(
      f"the Frechet distance is {found:.3g}, below zero: a covariance is not"
      " positive semidefinite; make the statistics again"
    )
  return max(found, 0.0)


def _unclipped(mean_a, covariance_a, mean_b, covariance_b):
  """Returns the distance as computed, and the sum of the traces."""
  mean_a, covariance_a = _check(mean_a, covariance_a)
  mean_b, covariance_b = _check(mean_b, covariance_b)
  moments.check_width(mean_a, mean_b)
  shift = mean_a - mean_b
  root = _trace_of_root(covariance_a, covariance_b)
  traces = np.trace(covariance_a) + np.trace(covariance_b)
  return float(shift @ shift + traces - 2 * root), float(traces)


def _trace_of_root(a: np.ndarray, b: np.ndarray) -> float:
  """Returns tr (a b)^(1/2) for positive semidefinite matrices."""
  first, second = _factor(a), _factor(b)
  if first.shape[1] > second.shape[1]:
    first, second = second, first
  if not first.shape[1]:
    return 0.0
  mixed = first.T @ second  # [r, r], the first rank not above the second
  spectrum = scipy.linalg.eigvalsh(
    mixed @ mixed.T, check_finite=False, overwrite_a=True
  )
  return float(np.sqrt(np.maximum(spectrum, 0)).sum())


def _factor(a: np.ndarray) -> np.ndarray:
  """Returns F with F F^T = a, [d, r]."""
  rounding = len(a) * np.finfo(np.float64).eps
  try:
    factor = scipy.linalg.cholesky(a, lower=True, check_finite=False)
  except scipy.linalg.LinAlgError:
    factor = None
  if factor is not None:
    pivots = np.diag(factor) ** 2
    if pivots.min() > rounding * pivots.max():
      return factor
  # Singular, to rounding: directions that hold nothing else are left out, for
  # each would add the root of its rounding. With P the pivots' permutation,
  # P^T a P = L L^T, and columns of L from the rank on are unfinished.
  tolerance = rounding * max(float(np.diag(a).max()), 0.0)
  lower, pivots, rank, _ = scipy.linalg.lapack.dpstrf(a, tolerance, lower=1)
  factor = np.zeros((len(a), rank))
  factor[pivots - 1] = np.tril(lower[:, :rank])
  return factor


def _check(mean, covariance) -> tuple[np.ndarray, np.ndarray]:
  mean, covariance = np.float64(mean), np.float64(covariance)
  if mean.ndim != 1 or covariance.shape != (mean.size, mean.size):
    raise moments.FeatureError(
      f"a mean of shape {mean.shape} and a covariance of shape"
      f" {covariance.shape} are not [d] and [d, d]"
    )
  if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
    raise moments.FeatureError("the moments are not finite")
  return mean, covariance
