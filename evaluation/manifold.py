"""Precision, recall, density and coverage by nearest-neighbour balls.

Improved precision and recall (Kynkaanniemi et al. 2019): k = 3, a point is
inside a ball of radius r at distance <= r. Density and coverage (Naeem et al.
2020): k = 5, strictly inside. The radius of a point is the distance to its
k-th neighbour in its own set, itself left out.

Distances are computed in blocks in float64 and compared in float32, so the
result does not depend on the block size. Letters: `n m` examples, `d`
features.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from evaluation import moments

_BLOCK = 1024


@dataclasses.dataclass(frozen=True)
class PrecisionRecall:
  """Shares in 0..1."""

  precision: float
  recall: float


@dataclasses.dataclass(frozen=True)
class DensityCoverage:
  """Density is 1 for equal laws and may exceed it; coverage is in 0..1."""

  density: float
  coverage: float


def precision_recall(
  reference: np.ndarray, samples: np.ndarray, k: int = 3, block: int = _BLOCK
) -> PrecisionRecall:
  """Returns the share of each set inside any ball of the other.

  Args:
    reference: [n, d]; 10,000 images by convention.
    samples: [m, d].
    k: Which neighbour gives the radius.
    block: Rows at a time; memory is block * max(n, m) * 12 bytes.

  Raises:
    FeatureError: Widths differ, features are not finite or too few.
  """
  reference, samples = _check(reference, samples, k)
  real, fake = _radii(reference, k, block), _radii(samples, k, block)
  inside = np.zeros(len(samples), bool)
  covered = np.zeros(len(reference), bool)
  for start, distances in _blocks(reference, samples, block):
    rows = slice(start, start + len(distances))
    inside |= (distances <= real[rows, None]).any(0)
    covered[rows] = (distances <= fake[None]).any(1)
  return PrecisionRecall(float(inside.mean()), float(covered.mean()))


def density_coverage(
  reference: np.ndarray, samples: np.ndarray, k: int = 5, block: int = _BLOCK
) -> DensityCoverage:
  """Returns how many balls of the reference hold a sample, and how many any.

  Args:
    reference: [n, d].
    samples: [m, d].
    k: Which neighbour gives the radius.
    block: Rows at a time.

  Raises:
    FeatureError: Widths differ, features are not finite or too few.
  """
  reference, samples = _check(reference, samples, k)
  radii = _radii(reference, k, block)
  total, covered = 0, 0
  for start, distances in _blocks(reference, samples, block):
    held = distances < radii[start : start + len(distances), None]
    total += int(held.sum())
    covered += int(held.any(1).sum())
  return DensityCoverage(total / (k * len(samples)), covered / len(reference))


def _check(reference, samples, k) -> tuple[np.ndarray, np.ndarray]:
  reference = moments.check_finite(reference)
  samples = moments.check_finite(samples)
  moments.check_width(reference, samples)
  fewest = min(len(reference), len(samples))
  if fewest <= k:
    raise moments.FeatureError(
      f"{fewest} examples have no neighbour number {k}"
    )
  # The common centre loses fewer digits in |x|^2 + |y|^2 - 2 x y.
  centre = np.float64(reference).mean(0)
  return reference - centre, samples - centre


def _radii(x: np.ndarray, k: int, block: int) -> np.ndarray:
  """Returns squared distances to the k-th neighbour, [n], float32."""
  radii = np.empty(len(x), np.float32)
  for start, distances in _blocks(x, x, block):
    rows = np.arange(len(distances))
    distances[rows, start + rows] = np.inf
    radii[start + rows] = np.partition(distances, k - 1, axis=1)[:, k - 1]
  return radii


def _blocks(
  a: np.ndarray, b: np.ndarray, block: int
) -> Iterator[tuple[int, np.ndarray]]:
  """Yields squared distances [block, m] of rows of `a` to all of `b`."""
  norms = np.einsum("nd,nd->n", b, b)
  for start in range(0, len(a), block):
    rows = a[start : start + block]
    squares = np.einsum("nd,nd->n", rows, rows)[:, None] + norms
    squares -= 2 * (rows @ b.T)
    yield start, np.maximum(squares, 0).astype(np.float32)
