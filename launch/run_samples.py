"""Draws the samples of a run that are scored.

Sample i is a function of the checkpoint, the seed and i alone, its label too:
any first ones have nearly the histogram of the training split's labels.
"""

import argparse
import itertools
import logging
import math
from pathlib import Path

import jax
import ml_collections
import numpy as np

from data import source as source_lib
from evaluation import generation, image_sets
from launch import (
  errors,
  image_sources,
  request,
  runs,
  score_job,
  scores,
  tasks,
)
from training import sharding

_logger = logging.getLogger(__name__)
_GOLDEN = (5**0.5 - 1) / 2


def draw(job: score_job.Job, num: int) -> generation.Samples:
  """Draws `num` samples, going on with those that are there."""
  run, args = job.run, job.args
  mesh = sharding.make_mesh({"data": -1})
  batch = args.sample_batch or run.config.sample.batch
  batch = -(-batch // mesh.size) * mesh.size
  labels = labels_of(run.config, job.source, -(-num // batch) * batch)
  sampler = make_sampler(run, jax.random.key(args.seed), labels)

  def sample(indices: np.ndarray) -> dict[str, np.ndarray]:
    placed = jax.device_put(indices, sharding.batch_sharding(mesh))
    drawn = sampler(job.state, placed)
    found = {"images": drawn.images, "sizes": drawn.sizes}
    if labels is not None:
      found["labels"] = np.asarray(labels, np.int32)[indices]
    return scores.host(found)

  identity = {
    "step": job.step,
    "seed": args.seed,
    "average": not args.no_average,
    "labels": policy(run.config, job.source),
    "sampling": dict(run.config.sample),
  }
  if labels is not None:
    identity["split"] = job.source.fingerprint
  with scores.Bar("sampling (the first batch compiles)", num) as show:
    return generation.generate(
      sample,
      num,
      batch,
      job.folder / folder(args),
      identity=identity,
      progress=show,
    )


def check(job: score_job.Job) -> None:
  """Raises CommandError where a run's task draws no samples."""
  if not tasks.offers(job.run.task, "sample"):
    raise errors.CommandError(
      f"task {job.run.config.task} has nothing to sample: ask for"
      " --metrics=reconstruction"
    )


def folder(args: argparse.Namespace) -> str:
  """Names the folder of a checkpoint's samples, of any number."""
  raw = "-raw" if args.no_average else ""
  return f"samples-seed{args.seed}{raw}"


def discard(path: Path) -> None:
  """Deletes samples that have scores, unless another job draws more there."""
  try:
    generation.delete(path)
  except generation.SamplesError as error:
    _logger.warning("samples are not deleted: %s", error)


def images(
  samples: generation.Samples, size: int, name: str
) -> image_sets.ImageSet:
  """Makes a set of samples, cut to what counts of them."""

  def read(start, stop):
    rows = samples.rows(start, stop, ["images", "sizes"])
    return image_sources.cut(rows["images"], rows["sizes"], size)

  return image_sets.seekable(name, len(samples), read)


def make_sampler(
  run: runs.Run, key: jax.Array, labels: tuple[int, ...] | None
) -> tasks.Sampler:
  """Makes the sampler of a run, with labels of samples in order."""
  adapter = run.adapter
  if tasks.offers(adapter, "make_requested_sampler"):
    asked = request.from_config(run.config, labels=labels)
    return adapter.make_requested_sampler(
      run.config, run.task, run.measured, key, asked
    )
  return adapter.make_sampler(run.config, run.task, run.measured, key)


def policy(config: ml_collections.ConfigDict, source: source_lib.Source) -> str:
  """Names where the labels of samples come from."""
  takes = takes_labels(config, source)
  return "as in the training split" if takes else "none"


def takes_labels(
  config: ml_collections.ConfigDict, source: source_lib.Source
) -> bool:
  """Says whether a run's model is told classes, and its dataset has some."""
  return bool(source.num_classes) and config.model.get("num_classes", -1) != 0


def labels_of(
  config: ml_collections.ConfigDict, source: source_lib.Source, num: int
) -> tuple[int, ...] | None:
  """Returns the labels of `num` samples of a run; None where it takes none."""
  return deal(source, num) if takes_labels(config, source) else None


def deal(source: source_lib.Source, num: int) -> tuple[int, ...]:
  """Takes the label of record (i * stride) mod n for sample i.

  The stride, near n / golden ratio and without a common factor, spreads any
  first samples evenly over the records, and takes each record once in n.
  """
  places = np.arange(num, dtype=np.int64) * _stride(len(source)) % len(source)
  labels = np.empty(num, np.int64)
  for start in range(0, num, 1024):
    rows = slice(start, start + 1024)
    labels[rows] = [x["label"] for x in source.read(places[rows])]
  return tuple(int(x) for x in labels)


def _stride(count: int) -> int:
  near = round(_GOLDEN * count)
  strides = (near + sign * d for d in itertools.count() for sign in (-1, 1))
  return next(x for x in strides if x > 0 and math.gcd(x, count) == 1)
