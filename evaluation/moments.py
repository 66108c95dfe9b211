"""Mean and covariance of features, gathered in pieces and merged.

Each batch is centred on its own mean, and two sets merge by the rule of Chan,
Golub and LeVeque (1979), all in float64 on the host: sums of raw squares in
float32 lose the digits that FID needs. Letter: `d` features.
"""

import dataclasses
import functools
from collections.abc import Iterable

import numpy as np

_ROWS = 1024  # that wait for their product


class FeatureError(ValueError):
  """Features that no statistic can be computed of."""


@dataclasses.dataclass(frozen=True)
class Moments:
  """First and second moments of a set.

  Attributes:
    count: How many examples.
    mean: [d], float64.
    scatter: sum of (x - mean)(x - mean)^T, [d, d], float64.
  """

  count: int
  mean: np.ndarray
  scatter: np.ndarray

  @property
  def covariance(self) -> np.ndarray:
    """The unbiased covariance, [d, d]; needs two examples."""
    if self.count < 2:
      raise FeatureError(f"{self.count} examples have no covariance")
    return self.scatter / (self.count - 1)

  def merge(self, other: "Moments") -> "Moments":
    """Returns the moments of both sets together."""
    if not self.count:
      return other
    if not other.count:
      return self
    check_width(self.mean, other.mean)
    count = self.count + other.count
    shift = other.mean - self.mean
    mean = self.mean + shift * (other.count / count)
    between = np.outer(shift, shift) * (self.count * other.count / count)
    return Moments(count, mean, self.scatter + other.scatter + between)


class Running:
  """The moments of features that come in pieces, in constant memory.

  Rows wait in float32 until 1024 are there: one product of so many costs a
  fraction of many small ones, and where it is cut does not depend on the
  pieces.
  """

  def __init__(self):
    """Begins without features."""
    self._moments: Moments | None = None
    self._waiting: list[np.ndarray] = []
    self._held = 0

  def add(self, features: np.ndarray) -> None:
    """Adds features [b, d], float32.

    Raises:
      FeatureError: They are not [b, d] or not finite.
    """
    features = check_finite(features)
    while self._held + len(features) >= _ROWS:
      cut = _ROWS - self._held
      self._waiting.append(features[:cut])
      self._merge()
      features = features[cut:]
    if len(features):
      self._waiting.append(features)
      self._held += len(features)

  def moments(self) -> Moments | None:
    """Returns the moments of all that was added; None of nothing."""
    if self._waiting:
      self._merge()
    return self._moments

  def _merge(self) -> None:
    part = of(np.concatenate(self._waiting))
    self._moments = part if self._moments is None else self._moments.merge(part)
    self._waiting, self._held = [], 0


def of(features: np.ndarray) -> Moments:
  """Returns the moments of a set of features [b, d].

  Raises:
    FeatureError: They are not [b, d] or not finite.
  """
  x = check_finite(features).astype(np.float64)
  if not len(x):
    return empty(x.shape[1])
  mean = x.mean(0)
  centred = x - mean
  return Moments(len(x), mean, centred.T @ centred)


def empty(width: int) -> Moments:
  """Returns the moments of no examples."""
  return Moments(0, np.zeros(width), np.zeros((width, width)))


def merged(parts: Iterable[Moments]) -> Moments:
  """Merges any number of moments, at least one."""
  return functools.reduce(Moments.merge, parts)


def check_finite(features: np.ndarray) -> np.ndarray:
  """Returns features [b, d], or raises FeatureError naming what is wrong."""
  features = np.asarray(features)
  if features.ndim != 2:
    raise FeatureError(f"features are {features.shape}, not [b, d]")
  bad = ~np.isfinite(features).all(1)
  if bad.any():
    raise FeatureError(
      f"{bad.sum()} of {len(bad)} examples have features that are not finite,"
      f" first example {int(np.argmax(bad))}; check the images and weights"
    )
  return features


def check_width(a: np.ndarray, b: np.ndarray) -> None:
  """Raises FeatureError where two sets have features of unequal width."""
  if a.shape[-1] != b.shape[-1]:
    raise FeatureError(
      f"features of widths {a.shape[-1]} and {b.shape[-1]} do not compare;"
      " both sets must come from the same network and layer"
    )
