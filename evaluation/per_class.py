"""Precision and recall class by class: which classes a model leaves out."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import matplotlib.figure
import numpy as np

from evaluation import manifold, moments

_MAX_BARS = 100


@dataclasses.dataclass(frozen=True)
class Class:
  """Scores of one class, among images of this class only."""

  label: int
  precision: float
  recall: float
  num_samples: int
  num_reference: int


def precision_recall(
  reference: np.ndarray,
  reference_labels: np.ndarray,
  samples: np.ndarray,
  sample_labels: np.ndarray,
  k: int = 3,
) -> list[Class]:
  """Scores each class that has more than `k` images in both sets.

  Args:
    reference: Features [n, d].
    reference_labels: int [n].
    samples: Features [m, d].
    sample_labels: int [m].
    k: Which neighbour gives the radius of a ball.

  Raises:
    FeatureError: There are not as many labels as features.
  """
  pairs = ((reference, reference_labels), (samples, sample_labels))
  for x, labels in pairs:
    if len(x) != len(labels):
      raise moments.FeatureError(
        f"{len(labels)} labels do not fit {len(x)} features"
      )
  found = []
  for label in np.unique(reference_labels):
    real = reference[reference_labels == label]
    fake = samples[sample_labels == label]
    if min(len(real), len(fake)) > k:
      scores = manifold.precision_recall(real, fake, k)
      found.append(
        Class(int(label), scores.precision, scores.recall, len(fake), len(real))
      )
  return found


def figure(
  classes: Sequence[Class], names: Sequence[str], path: str | Path | IO[bytes]
) -> None:
  """Draws precision and recall of each class, lowest recall first.

  Of more than 100 classes those of the lowest recall are shown.
  """
  shown = sorted(classes, key=lambda c: c.recall)[:_MAX_BARS]
  places = np.arange(len(shown))
  chart = matplotlib.figure.Figure(
    figsize=(max(5, 0.22 * len(shown) + 2), 3), layout="constrained"
  )
  axes = chart.subplots()
  axes.bar(places - 0.2, [c.recall for c in shown], 0.4, label="recall")
  axes.bar(places + 0.2, [c.precision for c in shown], 0.4, label="precision")
  axes.set_ylim(0, 1)
  axes.set_xticks(
    places,
    [names[c.label] if c.label < len(names) else str(c.label) for c in shown],
    rotation=90,
    fontsize=6,
  )
  axes.set_ylabel("share of a class's pictures", fontsize=7)
  axes.tick_params(axis="y", labelsize=7)
  chart.legend(fontsize=7, loc="outside right upper")
  samples = np.median([c.num_samples for c in classes])
  real = np.median([c.num_reference for c in classes])
  axes.set_title(
    f"{len(shown)} of {len(classes)} classes, lowest recall first\n"
    f"a class has about {samples:.0f} samples and {real:.0f} real pictures",
    fontsize=7,
  )
  chart.savefig(path, dpi=120)
