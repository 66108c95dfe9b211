"""Scores a run's reconstructions against the very crops they are of.

With a codebook, also how the split uses its codes.
"""

import functools
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from data import order
from data import source as source_lib
from evaluation import image_sets
from launch import (
  code_usage,
  colourless_scores,
  datasets,
  errors,
  image_sources,
  reconstructions,
  runs,
  score_job,
  scores,
  split_statistics,
  tasks,
)
from training import sharding

_logger = logging.getLogger(__name__)

METRICS = ("fid", *scores.PAIRED)
# What is said where LPIPS was asked for.
WITHOUT_LPIPS = "random features, so without LPIPS"


def check(job: score_job.Job) -> None:
  """Looks for all that `reconstruct` needs.

  Raises:
    CommandError: the task does not reconstruct, or the split has too few
      images.
    WeightsMissing: those of LPIPS cannot be had.
  """
  _check_task(job.run)
  _open(job.run, job.args.split, job.args.num_images, exactly=True)
  if not (colourless_scores.needed(job.run.config) or job.net.random):
    scores.open_lpips()


def reconstruct(
  job: score_job.Job,
  num: int = 0,
  metrics: Sequence[str] = METRICS,
  mesh: Mesh | None = None,
  split: str = "",
  count_codes: bool = True,
  scheduled: bool = False,
) -> dict[str, Any]:
  """Scores reconstructions of a split against its very crops.

  Of what is no picture in colour only some metrics, see `colourless_scores`.

  Args:
    job: the checkpoint; its `source` is not looked at.
    num: only so many of the split's images, evenly spaced; 0 takes all.
    metrics: of METRICS.
    mesh: where the state lives; all devices by default.
    split: "" for that of the evaluation.
    count_codes: also say how the split uses a codebook.
    scheduled: name scores by the images that were asked for, and log how many
      could not be read: a curve keeps its name when a file breaks.
  """
  run, args = job.run, job.args
  _check_task(run)
  source = _open(run, split, num)
  mesh = sharding.make_mesh({"data": -1}) if mesh is None else mesh
  batches = lambda: datasets.eval_batches(
    run.config, run.adapter, run.measured, source, mesh
  )
  usage = lambda: _usage(job, batches()) if count_codes else {}
  pairs = reconstructions.Reconstructions(job, source, batches)
  name = f"reconstructions of {source.name}, step {job.step}"
  describe = functools.partial(
    scores.describe,
    name,
    source.name,
    crop=scores.crop_name(args.size),
    step=job.step,
    average=not args.no_average,
  )
  if colourless_scores.needed(run.config):
    found, extracted, notes = colourless_scores.score(
      job, pairs, batches, metrics
    )
    found = {**found, **usage()}
    notes = [*_unreadable(source, extracted, scheduled), *notes]
    return describe(extracted, None, found, notes)
  # Before a whole split is encoded: the weights of LPIPS may be absent.
  sums = scores.PairSums(_paired(job, source, metrics))
  codes = usage()
  made = pairs.images(name, lambda count: _added(pairs, sums, count))
  extracted = scores.extract(made, job.net, args.batch, keep=())
  against = split_statistics.open_or_make(
    run, source, job.net, args.batch, args.size, pairs.originals()
  )
  found, notes = scores.score(
    extracted,
    job.net,
    made.name,
    against,
    None,
    [m for m in metrics if m == "fid"],
    named=len(source) if scheduled else 0,
  )
  if "lpips" in metrics and job.net.random:
    notes.append(WITHOUT_LPIPS)
  unreadable = _unreadable(source, extracted, scheduled)
  notes = dict.fromkeys([*unreadable, *notes])
  return describe(
    extracted,
    job.net,
    {**_named_reconstruction(found), **sums.means(), **codes},
    [*notes],
  )


def _check_task(run):
  if not tasks.offers(run.task, "reconstruct"):
    raise errors.CommandError(
      f"task {run.config.task} does not reconstruct: ask for fid"
    )


def _open(
  run: runs.Run, split: str, num: int, exactly: bool = False
) -> source_lib.Source:
  """Opens a split, or images evenly spaced over it."""
  source = datasets.open_source(run.config, split or run.config.data.eval_split)
  if exactly and num > len(source):
    raise errors.CommandError(
      f"--num_images={num}: {source.name} has {len(source)}; leave it out for"
      " all"
    )
  if num and num < len(source):
    source = source_lib.Part(source, order.subset(num, len(source)))
  return source


def _usage(job, batches) -> dict[str, float]:
  """Returns how a codebook is used, where there is one."""
  task = job.run.task
  if not tasks.offers(task, "count_codes"):
    return {}
  return code_usage.measure(task, job.state, batches)


def _unreadable(source, extracted, log) -> list[str]:
  total = len(source)
  left_out = total - extracted.count
  notes = image_sets.unreadable(left_out, total, source.name)
  for note in notes if log else ():
    _logger.warning("%s", note)
  return notes


def _paired(
  job: score_job.Job, source: source_lib.Source, metrics: Sequence[str]
) -> list[str]:
  """Leaves out what tiny images lack and, in tests, LPIPS's weights."""
  images = image_sources.from_run(job.run, source, job.args.size)
  side = min(next(images.pieces(1)).shape[1:3])
  left_out = {"lpips"} if job.net.random else set()
  return [
    name
    for name in scores.PAIRED
    if name in metrics and name not in left_out
    if side >= scores.LEAST_SIDE.get(name, 1)
  ]


def _added(
  pairs: reconstructions.Reconstructions, sums: scores.PairSums, count: int
) -> Iterator[np.ndarray]:
  """Yields reconstructions of each image once, adding them to the pairs."""
  for some in pairs.pairs(count):
    sums.add(some.made, some.real)
    yield some.made


def _named_reconstruction(found: dict[str, float]) -> dict[str, float]:
  """Calls a FID of reconstructions rFID."""
  names = {"fid": "rfid", "frechet": "rfrechet"}
  return {
    "_".join(names.get(part, part) for part in name.split("_")): value
    for name, value in found.items()
  }
