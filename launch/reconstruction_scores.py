"""Scores a run's reconstructions against the very crops they are of.

With a codebook, also how the split uses its codes.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from data import source as source_lib
from evaluation import image_sets, pixels
from launch import (
  code_usage,
  datasets,
  errors,
  image_sources,
  score_job,
  scores,
  tasks,
)
from training import sharding


def reconstruct(job: score_job.Job) -> dict[str, Any]:
  """Scores reconstructions of the evaluation split against its very crops."""
  run, args = job.run, job.args
  if not tasks.offers(run.task, "reconstruct"):
    raise errors.CommandError(
      f"task {run.config.task} does not reconstruct: ask for fid"
    )
  source = datasets.open_source(run.config, run.config.data.eval_split)
  originals = image_sources.from_run(run, source, args.size)
  metrics = _metrics(job, originals)
  sums = scores.PairSums(metrics)
  made = image_sets.ImageSet(
    f"reconstructions of {source.name}, step {job.step}",
    len(source),
    lambda count: _reconstructions(job, source, originals, sums, count),
  )
  extracted = scores.extract(made, job.net, args.batch)
  against = scores.statistics_of(
    originals, job.net, args.batch, scores.crop_name(args.size)
  )
  found, notes = scores.score(
    extracted, job.net, made.name, against, against.features, ["fid"]
  )
  usage: dict[str, float] = {}
  if tasks.offers(run.task, "count_codes"):
    usage = code_usage.measure(run.task, job.state, _batches(job, source))
  return scores.describe(
    made.name,
    source.name,
    extracted,
    job.net,
    {**_named_reconstruction(found), **sums.means(), **usage},
    notes,
    crop=scores.crop_name(args.size),
    step=job.step,
    average=not args.no_average,
  )


def _metrics(job: score_job.Job, images: image_sets.ImageSet) -> list[str]:
  """Leaves out SSIM of tiny images and, in tests, LPIPS's weights."""
  side = min(next(images.pieces(1)).shape[1:3])
  left_out = {"lpips"} if job.net.random else set()
  if side < pixels.SSIM_SIDE:
    left_out.add("ssim")
  return [name for name in scores.PAIRED if name not in left_out]


def _reconstructions(
  job: score_job.Job,
  source: source_lib.Source,
  originals: image_sets.ImageSet,
  sums: scores.PairSums,
  count: int,
) -> Iterator[np.ndarray]:
  """Yields reconstructions of each image once, adding them to the pairs."""
  run = job.run
  step = jax.jit(run.task.reconstruct)
  real = originals.pieces(1)
  waiting: list[np.ndarray] = []
  last = -1
  for batch in _batches(job, source):
    made, ids, mask = scores.host(
      (step(job.state, batch), batch["example_id"], batch["mask"])
    )
    for image, number, counts in zip(made, ids, mask):
      # An example can be several rows; its first has it all.
      if not counts or number <= last:
        continue
      last = int(number)
      original = next(real)
      image = image_sources.fit(
        image[: original.shape[1], : original.shape[2]], job.args.size
      )
      sums.add(image[None], original)
      waiting.append(image)
      if len(waiting) == count:
        yield image_sources.stack(waiting, "the reconstructions")
        waiting = []
  if waiting:
    yield image_sources.stack(waiting, "the reconstructions")


def _batches(job, source):
  run, mesh = job.run, sharding.make_mesh({"data": -1})
  return datasets.eval_batches(
    run.config, run.adapter, run.measured, source, mesh
  )


def _named_reconstruction(found: dict[str, float]) -> dict[str, float]:
  """Calls a FID of reconstructions rFID."""
  names = {"fid": "rfid", "frechet": "rfrechet"}
  return {
    "_".join(names.get(part, part) for part in name.split("_")): value
    for name, value in found.items()
  }
