"""Samples a run, scores what it draws, and says how well it reconstructs.

Samples go to RUN/eval/STEP/samples-.../, in parts that a stopped job goes on
from; results to RUN/eval/STEP/scores-....json, TensorBoard and the terminal.
"""

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from evaluation import compare, features, reference, report
from launch import (
  colourless_scores,
  datasets,
  errors,
  image_sources,
  reconstruction_scores,
  run_samples,
  runs,
  score_files,
  score_job,
  score_pictures,
  scores,
  split_statistics,
)
from training import checkpoint, rundir, sharding, tensorboard

RECONSTRUCTION = "reconstruction"
NEAREST, PER_CLASS = "nearest", "per_class"
# What only a run can be asked for.
METRICS = (RECONSTRUCTION, NEAREST, PER_CLASS)
# States of status.json after which no checkpoint follows.
_FINAL = ("completed", "failed")

_logger = logging.getLogger(__name__)


def main(args: argparse.Namespace) -> int:
  """Scores a checkpoint of a run; with --watch each one, oldest first."""
  if args.watch:
    _wait_for_run(args)
  config = runs.load_config(args.workdir)
  net = _network(args, config)
  results = _results(args, net, config)
  if args.watch:
    return _watch(args, net, results)
  score_checkpoint(_open(args, net, args.step), results)
  return 0


def _network(args, config) -> features.Network:
  """Opens Inception, but where only colourless reconstructions are scored."""
  if {*args.metrics} == {RECONSTRUCTION} and colourless_scores.needed(config):
    return colourless_scores.no_network()
  return scores.open_network(args.inception, args.preprocess)


def _wait_for_run(args: argparse.Namespace) -> None:
  """Returns once the training job has begun: jobs may start together."""
  told = False
  while not (args.workdir / "config.json").is_file():
    if not told:
      print(f"waiting for a run in {args.workdir}", flush=True)
    told = True
    time.sleep(args.poll)


def _results(args, net, config) -> list[score_files.Result]:
  """Returns the files that were asked for."""
  names = [name for name in args.metrics if name != RECONSTRUCTION]
  found = []
  if names:
    found.append(score_files.of_samples(args, net, config, names))
  if RECONSTRUCTION in args.metrics:
    if colourless_scores.needed(config):
      net = colourless_scores.no_network()
    found.append(
      score_files.of_reconstructions(args, net, config, RECONSTRUCTION)
    )
  return found


def _watch(args, net, results) -> int:
  """Scores what has no scores yet, until the run has ended."""
  passed: dict[int, checkpoint.CheckpointError | None] = {}
  if args.discard_samples and jax.process_index() == 0:
    _discard_what_is_left(args, results)
  while True:
    # Read before the steps: none follows them once the run has ended.
    ended = sharding.agreed(_ended(args.workdir))
    step = sharding.agreed(_oldest(args.workdir, results, passed))
    if step >= 0:
      passed[step] = _attempt(args, net, step, results)
    elif ended:
      return _report_end(args.workdir, passed)
    else:
      time.sleep(args.poll)


def _discard_what_is_left(args, results) -> None:
  """Deletes samples that have scores: a kill may have come between."""
  (asked,) = (x for x in results if RECONSTRUCTION not in x.metrics)
  for path in sorted(args.workdir.glob(f"eval/*/{run_samples.folder(args)}")):
    if asked.done(path.parent):
      run_samples.discard(path)


def _attempt(args, net, step, results) -> checkpoint.CheckpointError | None:
  """Scores a checkpoint unless it cannot be read; returns why."""
  try:
    job = _open(args, net, step)
  except checkpoint.CheckpointError as error:
    _logger.warning("step %d is not scored: %s", step, error)
    return error
  score_checkpoint(job, results)
  return None


def _open(
  args: argparse.Namespace, net: features.Network, step: int | str | None
) -> score_job.Job:
  """Restores a checkpoint, by default the newest good one.

  Raises:
    CheckpointError: it is damaged, or no longer there.
  """
  run = runs.open_run(args.workdir)
  _move_data(run.config, args)
  restored = run.restore(
    sharding.make_mesh({"data": -1}),
    average=not args.no_average,
    step=step,
  )
  source = datasets.open_source(run.config, run.config.data.split)
  return score_job.Job(run, restored.state, restored.step, source, net, args)


def _move_data(config, args) -> None:
  """Takes --data_dir for the run's data, unless it is only a reference's."""
  other = args.reference.startswith(image_sources.TFDS)
  if args.data_dir and (config.data.source == "tfds" or not other):
    with config.unlocked():
      config.data.dir = args.data_dir


def score_checkpoint(
  job: score_job.Job, results: Sequence[score_files.Result]
) -> None:
  """Makes the files of a checkpoint, with --watch those that are not there."""
  args = job.args
  if any(RECONSTRUCTION in asked.metrics for asked in results):
    reconstruction_scores.check(job)  # not after hours of samples
  for asked in results:
    if args.watch and sharding.agreed(asked.done(job.folder)):
      continue
    if RECONSTRUCTION in asked.metrics:
      found = reconstruction_scores.reconstruct(
        job, args.num_images, split=args.split
      )
    else:
      found = score_samples(job, asked.metrics)
    if jax.process_index() == 0:
      write_tensorboard(job, found["scores"], asked.group)
      result = asked.joined(job.folder, found)
      dataset = args.dataset or job.run.config.data.get("name", "")
      page = _for_the_page(job, asked.name, result)
      path = asked.path(job.folder)
      # Last: where it is, nothing is made again.
      report.write(path, {**result, **page, "published": dataset})
      print(report.table(result, dataset))
      print(path, flush=True)
    if args.discard_samples and RECONSTRUCTION not in asked.metrics:
      sharding.meet("samples are scored")  # the others read them no more
      if jax.process_index() == 0:
        run_samples.discard(job.folder / run_samples.folder(args))


def _for_the_page(
  job: score_job.Job, name: str, result: dict
) -> dict[str, Any]:
  """Adds what launch.report shows of every evaluation."""
  official = job.net.official and job.net.preprocess == "adm"
  official &= not any(compare.UNCHECKED in name for name in result["scores"])
  blind = job.net.weights == scores.NO_NETWORK  # no convention but the split
  blind &= "num_images" not in result
  count = result["num_samples"]
  return {
    "metric": name,
    "values": result["scores"],
    "num_examples": count,
    "split_size": count,
    "dataset": result["samples"],
    "comparable": blind or (official and count >= compare.CONVENTION),
  }


def score_samples(job: score_job.Job, metrics: Sequence[str]) -> dict[str, Any]:
  """Draws samples, going on with those that are there, and scores them."""
  args = job.args
  # What may be refused is, before anything long.
  run_samples.check(job)
  takes_labels = run_samples.takes_labels(job.run.config, job.source)
  if PER_CLASS in metrics and not takes_labels:
    raise errors.CommandError(
      f"samples of {args.workdir} have no labels: leave out per_class"
    )
  against, real = run_reference(job)
  samples = run_samples.draw(job, args.num_samples or compare.CONVENTION)
  name = f"{job.run.workdir} step {job.step}"
  images = run_samples.images(samples, args.size, name)
  extracted = scores.extract_like(images, job.net, args.batch, against)
  plain = [name for name in metrics if name not in METRICS]
  found, notes = scores.score(
    extracted, job.net, images.name, against, real, plain
  )
  score_pictures.sheet(job.run.workdir, job.step, images)
  if {NEAREST, PER_CLASS} & {*metrics}:
    explained, said = _explain(job, samples, images, extracted, metrics)
    found, notes = found | explained, notes + said
  return scores.describe(
    images.name,
    against.name,
    extracted,
    job.net,
    found,
    notes,
    crop=scores.crop_name(args.size),
    step=job.step,
    average=not args.no_average,
    seed=args.seed,
    sampling=dict(job.run.config.sample),
    labels=run_samples.policy(job.run.config, job.source),
    num_reference=against.pool.count,
    reference_metadata=against.metadata,
  )


def _explain(
  job, samples, images, extracted, metrics
) -> tuple[dict[str, float], list[str]]:
  """Draws the pictures that were asked for; returns scores and notes."""
  args = job.args
  split = split_statistics.open_or_make(
    job.run, job.source, job.net, args.batch, args.size
  )
  drawn = score_pictures.Drawn(
    job.run,
    job.step,
    samples,
    job.source,
    split.features,
    split.places,
    job.net,
    args.size,
    args.batch,
  )
  found: dict[str, float] = {}
  if NEAREST in metrics:
    found |= score_pictures.neighbours(drawn, images, extracted)
  if PER_CLASS in metrics:
    found |= score_pictures.classes(drawn, extracted)
  said = compare.looked_at(split, len(split.features))
  return found, [f"{NEAREST}, {PER_CLASS}: {text}" for text in said]


def run_reference(
  job: score_job.Job,
) -> tuple[reference.Statistics, np.ndarray | None]:
  """Returns --reference, or the statistics of the training split."""
  args = job.args
  if args.reference:
    return scores.open_reference(
      args.reference, job.net, args.batch, args.size, args.data_dir
    )
  found = split_statistics.open_or_make(
    job.run, job.source, job.net, args.batch, args.size
  )
  return found, found.features


def write_tensorboard(
  job: score_job.Job, found: dict[str, float], group: str = ""
) -> None:
  """Adds scores to the run's TensorBoard, where it keeps one.

  What has files of its own has curves of its own, in a group below `eval/`.
  """
  folder = job.run.workdir / "tensorboard"
  writer = tensorboard.make(folder) if folder.is_dir() else None
  if writer is None:
    return
  group = "/".join(["eval", *filter(None, [group])])
  finite = {f"{group}/{k}": v for k, v in found.items() if np.isfinite(v)}
  writer.scalars(job.step, finite)
  writer.close()


def _oldest(workdir: Path, results, passed) -> int:
  """Returns the oldest step there is whose scores are not, or -1."""
  for step in checkpoint.steps(rundir.RunDirectory(workdir).checkpoints):
    folder = score_job.folder(workdir, step)
    if step not in passed and not all(x.done(folder) for x in results):
      return step
  return -1


def _ended(workdir: Path) -> bool:
  return rundir.RunDirectory(workdir).status().get("state") in _FINAL


def _report_end(workdir: Path, passed) -> int:
  """Ends well if any checkpoint there is has scores."""
  steps = checkpoint.steps(rundir.RunDirectory(workdir).checkpoints)
  if not steps and not passed:
    raise errors.CommandError(f"{workdir} has ended without a checkpoint")
  failed = [passed.get(step) for step in steps]
  if failed and all(failed):
    raise failed[-1]
  return 0
