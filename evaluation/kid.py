"""The Kernel Inception Distance (Binkowski et al. 2018).

The unbiased squared MMD with the kernel (x y / d + 1)^3, mean and deviation
over 100 random subsets of 1000, drawn as torch-fidelity draws them.
"""

import dataclasses

import numpy as np

from evaluation import moments

_SEED = 2020  # torch-fidelity's


@dataclasses.dataclass(frozen=True)
class KernelDistance:
  """Mean and standard deviation over the subsets; may be negative."""

  mean: float
  std: float


def distance(
  samples: np.ndarray,
  reference: np.ndarray,
  subsets: int = 100,
  size: int = 1000,
) -> KernelDistance:
  """Returns the distance of two sets of features [n, d].

  Raises:
    FeatureError: Widths differ, features are not finite or fewer than `size`.
  """
  samples = np.float64(moments.check_finite(samples))
  reference = np.float64(moments.check_finite(reference))
  moments.check_width(samples, reference)
  fewest = min(len(samples), len(reference))
  if fewest < size:
    raise moments.FeatureError(
      f"{fewest} examples do not make a subset of {size}"
    )
  draw = np.random.RandomState(_SEED)
  values = []
  for _ in range(subsets):
    x = samples[draw.choice(len(samples), size, replace=False)]
    y = reference[draw.choice(len(reference), size, replace=False)]
    values.append(_squared_mmd(x, y))
  return KernelDistance(float(np.mean(values)), float(np.std(values)))


def _squared_mmd(x: np.ndarray, y: np.ndarray) -> float:
  within = sum(k.sum() - np.trace(k) for k in (_kernel(x, x), _kernel(y, y)))
  pairs = len(x) * (len(x) - 1)
  return within / pairs - 2 * _kernel(x, y).mean()


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  return (x @ y.T / x.shape[1] + 1) ** 3
