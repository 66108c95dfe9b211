"""Scores samples against a reference: every number and all that decides it.

FID, sFID, KID, precision and recall and so on carry their qualifiers in their
names: `fid_adm_50k` is not comparable with `fid_clean_50k` or `fid_adm_5k`,
and with weights other than the public ones nothing is called FID at all. Where
a file does not say its preprocessing, the name does: `fid_adm_unchecked_50k`.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation import (
  features,
  frechet,
  inception_score,
  kid,
  manifold,
  reference,
)

# Unless others are asked for.
DEFAULT = (
  "fid",
  "sfid",
  "is",
  "kid",
  "precision_recall",
  "density_coverage",
)
METRICS = (*DEFAULT, "is_torch_fidelity")
CONVENTION = 50_000
# In the name of a score that a file's preprocessing is taken on trust for.
UNCHECKED = "unchecked"
# What is computed of moments that other tools may have made.
_OF_MOMENTS = ("fid", "sfid")
_PRECISION_IMAGES = 10_000
_KID_SIZE = 1000


def scores(
  samples: features.Features,
  net: features.Network,
  against: reference.Statistics | None,
  reference_features: np.ndarray | None = None,
  metrics: Sequence[str] = DEFAULT,
  unchecked: bool = False,
  named: int = 0,
) -> tuple[dict[str, float], list[str]]:
  """Returns scores by qualified name, and notes for the reader.

  A metric that the reference does not allow is left out and noted.

  Args:
    samples: With `pool` and `logits` kept, as the metrics need.
    net: What extracted both sets.
    against: The reference; None gives the Inception Score only.
    reference_features: pool_3 features of reference images, [n, 2048].
    metrics: Which of `METRICS`.
    unchecked: Whether the samples are moments of an unknown preprocessing.
    named: The number of samples in the names; 0 for as many as there are.

  Raises:
    ValueError: A metric is unknown.
  """
  unknown = [name for name in metrics if name not in METRICS]
  if unknown:
    raise ValueError(
      f"metric {unknown[0]!r} is not one of {', '.join(METRICS)}"
    )
  found: dict[str, float] = {}
  notes: list[str] = []
  if against is not None:
    unchecked |= against.known("preprocess") is None
  for name in metrics:
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter("always", frechet.SmallSampleWarning)
      values, note = _METRICS[name](samples, against, reference_features)
    doubtful = unchecked and name in _OF_MOMENTS
    count = named or samples.count
    found |= {qualified(k, net, count, doubtful): v for k, v in values.items()}
    said = [str(w.message) for w in caught] + ([note] if note else [])
    notes += [f"{name}: {text}" for text in said]
  if samples.count < CONVENTION:
    notes.append(
      f"{samples.count} samples, not {CONVENTION}: not comparable with"
      " published values"
    )
  notes += general_notes(net)
  return found, notes


def qualified(
  metric: str, net: features.Network, count: int, unchecked: bool = False
) -> str:
  """Names a score by what decides it: `fid` to `fid_adm_50k`.

  With moments of an unknown preprocessing it is `fid_adm_unchecked_50k`.

  With weights other than the public ones a Frechet distance is not a FID, nor
  the others what their names promise: they are called `unofficial_...`.
  """
  if metric in ("fid", "sfid") and not net.official:
    metric = metric.replace("fid", "frechet")
  number = f"{count // 1000}k" if count % 1000 == 0 and count else f"{count}"
  mode = f"{net.preprocess}_{UNCHECKED}" if unchecked else net.preprocess
  name = f"{metric}_{mode}_{number}"
  return name if net.official else f"unofficial_{name}"


def looked_at(against: reference.Statistics | None, count: int) -> list[str]:
  """Notes that `count` features of a reference are not those of all images."""
  total = against and against.pool.count
  if not total or count == total:
    return []
  return [f"{count} of {total} reference images, {against.chosen}"]


def general_notes(net: features.Network) -> list[str]:
  """Returns what has to be said of the network's weights."""
  if net.random:
    return [
      f"the network has random weights ({net.weights}): these numbers are no"
      " FID and compare with nothing but themselves"
    ]
  if not net.official:
    return [
      f"the network's weights ({net.weights[:8]}) are not the public ones"
      " (6726825d): these numbers are no FID"
    ]
  return []


def _fid(samples, against, _):
  return _frechet("fid", samples.moments["pool"], against and against.pool)


def _sfid(samples, against, _):
  if against is not None and against.spatial is None:
    return {}, "the reference has no spatial statistics (mu_s, sigma_s)"
  if "spatial" not in samples.moments:
    return {}, "the samples have no spatial statistics (mu_s, sigma_s)"
  return _frechet(
    "sfid", samples.moments["spatial"], against and against.spatial
  )


def _frechet(name, samples, against):
  if against is None:
    return {}, "there is no reference"
  if samples.count < 2:
    return {}, f"{samples.count} samples have no covariance"
  for who, count in (
    ("set of samples", samples.count),
    ("reference", against.count),
  ):
    frechet.warn_if_small(who, count, len(samples.mean), stacklevel=4)
  value = frechet.gaussians(
    samples.mean, samples.covariance, against.mean, against.covariance
  )
  return {name: value}, ""


def _is(samples, *_):
  if "logits" not in samples.kept:
    return {}, "the samples are statistics, without logits"
  value = inception_score.adm(samples.kept["logits"])
  return {"is": value}, ""


def _is_torch_fidelity(samples, *_):
  if "logits" not in samples.kept:
    return {}, "the samples are statistics, without logits"
  logits, splits = samples.kept["logits"], inception_score.SPLITS
  if len(logits) < splits:
    return {}, f"{len(logits)} samples do not make {splits} splits"
  mean, std = inception_score.torch_fidelity(logits)
  return {"is_torch_fidelity": mean, "is_torch_fidelity_std": std}, ""


def _kid(samples, against, reference_features):
  absent = _absent(samples, reference_features)
  if absent:
    return {}, absent
  pool = samples.kept["pool"]
  size = min(_KID_SIZE, len(pool), len(reference_features))
  said = [] if size == _KID_SIZE else [f"subsets of {size}, not {_KID_SIZE}"]
  said += _parts(samples, against, reference_features)
  if size < 2:
    return {}, "fewer than two images"
  found = kid.distance(pool, reference_features, size=size)
  return {"kid": found.mean, "kid_std": found.std}, ", ".join(said)


def _precision_recall(samples, against, reference_features):
  absent = _absent(samples, reference_features)
  if absent:
    return {}, absent
  few = _few(samples, reference_features, 3)
  if few:
    return {}, few
  found = manifold.precision_recall(reference_features, samples.kept["pool"])
  note = _numbers_note(samples, against, reference_features)
  return {"precision": found.precision, "recall": found.recall}, note


def _density_coverage(samples, against, reference_features):
  absent = _absent(samples, reference_features)
  if absent:
    return {}, absent
  few = _few(samples, reference_features, 5)
  if few:
    return {}, few
  found = manifold.density_coverage(reference_features, samples.kept["pool"])
  note = _numbers_note(samples, against, reference_features)
  return {"density": found.density, "coverage": found.coverage}, note


def _absent(samples, reference_features) -> str:
  if reference_features is None:
    return "the reference has neither images nor features"
  if "pool" not in samples.kept:
    return "the samples are statistics without features"
  return ""


def _few(samples, reference_features, k) -> str:
  fewest = min(len(samples.kept["pool"]), len(reference_features))
  return f"{fewest} images have no neighbour number {k}" if fewest <= k else ""


def _numbers_note(samples, against, reference_features) -> str:
  """Says where the numbers of features are not those of the convention."""
  count = len(reference_features)
  said = _parts(samples, against, reference_features)
  if count != _PRECISION_IMAGES:
    said.insert(0, f"{count} reference images, not {_PRECISION_IMAGES}")
  return ", ".join(said)


def _parts(samples, against, reference_features) -> list[str]:
  """Says where fewer than all images of a set were looked at."""
  kept = len(samples.kept["pool"])
  said = looked_at(against, len(reference_features))
  if kept != samples.count:
    said.append(f"{kept} of {samples.count} samples")
  return said


_METRICS: Mapping[str, Any] = {
  "fid": _fid,
  "sfid": _sfid,
  "is": _is,
  "kid": _kid,
  "precision_recall": _precision_recall,
  "density_coverage": _density_coverage,
  "is_torch_fidelity": _is_torch_fidelity,
}
