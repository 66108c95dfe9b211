"""Scores statistics: what a file of moments and features still allows.

No image is looked at, and where the reference is statistics too, no network
either: the files say which made them.
"""

import argparse
from typing import Any

import numpy as np

from evaluation import features, inception_weights, moments, reference
from evaluation import preprocess as preprocess_lib
from launch import errors, scores
from weights import download


def score(args: argparse.Namespace) -> dict[str, Any]:
  """Scores --samples, which is statistics, against --reference.

  Raises:
    CommandError: options ask for what only images have.
  """
  for name, value in (("size", args.size), ("transform", args.transform)):
    if value:
      raise errors.CommandError(
        f"{args.samples} holds statistics, no images: --{name} is not for it"
      )
  if not args.reference:
    raise errors.CommandError(
      f"{args.samples} holds statistics, which need a --reference"
    )
  paired = [name for name in args.metrics if name in scores.PAIRED]
  if paired:
    raise errors.CommandError(
      f"{', '.join(paired)} compare pairs of images: {args.samples} has none"
    )
  ours = reference.load(args.samples)
  net = _network(args, ours)
  _, kept = scores.open_reference(args.samples, net, args.batch)
  against, real = scores.open_reference(
    args.reference, net, args.batch, data_dir=args.data_dir
  )
  extracted = _extracted(ours, kept, args)
  found, said = scores.score(
    extracted, net, ours.name, against, real, args.metrics, ours
  )
  metadata = ours.metadata or {}
  return scores.describe(
    ours.name,
    args.reference,
    extracted,
    net,
    found,
    said,
    crop=metadata.get("crop", "unknown"),
    num_reference=against.pool.count,
    samples_metadata=ours.metadata,
    reference_metadata=against.metadata,
  )


def _network(
  args: argparse.Namespace, ours: reference.Statistics
) -> features.Network:
  """Opens the network, or names the one that the files were made with."""
  theirs = None
  if scores.is_statistics(args.reference):
    theirs = reference.load(args.reference)
  if args.inception or theirs is None or any(map(_unread, (ours, theirs))):
    return scores.open_network(args.inception, args.preprocess)
  known = next((x.metadata for x in (ours, theirs) if x.metadata), None)
  if known is None:
    # As in every file of other tools, on trust.
    weights, mode = download.FILES["inception"].sha256, args.preprocess
  else:
    weights, mode = known["weights"], known["preprocess"]
  if args.preprocess != preprocess_lib.DEFAULT:
    mode = args.preprocess

  def apply(params, images):
    raise AssertionError("statistics have no images")

  return features.Network(
    None, apply, mode, weights, inception_weights.official(weights)
  )


def _unread(found: reference.Statistics) -> bool:
  """Says whether features have to be extracted of a file's images."""
  return found.features is None and found.has_images


def _extracted(
  ours: reference.Statistics, kept: np.ndarray | None, args: argparse.Namespace
) -> features.Features:
  """Gives statistics the form of features that were just extracted."""
  metadata = ours.metadata or {}
  count = ours.pool.count or args.num_samples
  if not count:
    raise errors.CommandError(
      f"{ours.name} does not say of how many images it is: give --num_samples"
    )
  if args.num_samples not in (0, count):
    raise errors.CommandError(
      f"{ours.name} is of {count} images, not --num_samples={args.num_samples}"
    )
  kinds = {"pool": ours.pool, "spatial": ours.spatial}
  return features.Features(
    count,
    {
      kind: moments.Moments(
        count, gaussian.mean, gaussian.covariance * (count - 1)
      )
      for kind, gaussian in kinds.items()
      if gaussian is not None
    },
    {} if kept is None else {"pool": kept},
    tuple(metadata.get("size", ())),
    metadata.get("digest", ""),
  )
