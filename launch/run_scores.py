"""Samples a run, scores what it draws, and says how well it reconstructs.

Samples go to RUN/eval/STEP/samples-.../, in parts that a stopped job goes on
from; results to RUN/eval/STEP/scores-....json, TensorBoard and the terminal.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from evaluation import (
  compare,
  features,
  generation,
  image_sets,
  reference,
  report,
)
from launch import (
  colourless_scores,
  datasets,
  errors,
  image_sources,
  reconstruction_scores,
  request,
  runs,
  score_job,
  score_pictures,
  scores,
  split_statistics,
  tasks,
)
from training import checkpoint, rundir, sharding, tensorboard

RECONSTRUCTION = "reconstruction"
NEAREST, PER_CLASS = "nearest", "per_class"
# What only a run can be asked for.
METRICS = (RECONSTRUCTION, NEAREST, PER_CLASS)
# States of status.json after which no checkpoint follows.
_FINAL = ("completed", "failed")


def main(args: argparse.Namespace) -> int:
  """Scores a checkpoint of a run; with --watch each new one, from the first."""
  if args.watch:
    _wait_for_run(args)
  net = _network(args, runs.load_config(args.workdir))
  while True:
    # Read before the newest step: nothing follows it once the run has ended.
    ended = split_statistics.agreed(_ended(args.workdir))
    step = split_statistics.agreed(_newest(args.workdir))
    if step >= 0 or not args.watch:
      score_checkpoint(args, net)
    if not args.watch:
      return 0
    if step == split_statistics.agreed(_newest(args.workdir)):
      if ended:
        return _report_end(args.workdir, step)
      time.sleep(args.poll)


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


def score_checkpoint(args: argparse.Namespace, net: features.Network) -> None:
  """Scores --step or the newest good one, with --watch unless it is done."""
  run = runs.open_run(args.workdir)
  restored = run.restore(
    sharding.make_mesh({"data": -1}),
    average=not args.no_average,
    step=args.step,
  )
  source = datasets.open_source(run.config, run.config.data.split)
  job = score_job.Job(run, restored.state, restored.step, source, net, args)
  names = [name for name in args.metrics if name != RECONSTRUCTION]
  work = []
  if names:
    work.append((f"scores-{_label(job)}", lambda: score_samples(job, names)))
  if RECONSTRUCTION in args.metrics:
    work.append(
      (
        f"reconstruction-{net.preprocess}",
        lambda: reconstruction_scores.reconstruct(job),
      )
    )
  for name, compute in work:
    path = job.folder / f"{name}.json"
    if split_statistics.agreed(args.watch and path.exists()):
      continue
    result = compute()
    if jax.process_index() == 0:
      dataset = args.dataset or run.config.data.get("name", "")
      page = _for_the_page(job, name, result)
      report.write(path, {**result, **page, "published": dataset})
      write_tensorboard(job, result["scores"])
      print(report.table(result, dataset))
      print(path, flush=True)


def _for_the_page(
  job: score_job.Job, name: str, result: dict
) -> dict[str, Any]:
  """Adds what launch.report shows of every evaluation."""
  official = job.net.official and job.net.preprocess == "adm"
  official &= not any(compare.UNCHECKED in name for name in result["scores"])
  blind = job.net.weights == scores.NO_NETWORK  # of the whole split
  count = result["num_samples"]
  return {
    "metric": name,
    "values": result["scores"],
    "num_examples": count,
    "split_size": count,
    "dataset": result["samples"],
    "comparable": blind or (official and count >= compare.CONVENTION),
  }


def score_samples(job: score_job.Job, metrics: list[str]) -> dict[str, Any]:
  """Draws samples, going on with those that are there, and scores them."""
  args = job.args
  samples = draw(job, args.num_samples or compare.CONVENTION)
  images = _images(samples, args.size, f"{job.run.workdir} step {job.step}")
  extracted = scores.extract(images, job.net, args.batch)
  against, real = run_reference(job)
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
    labels=_policy(job.source),
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


def draw(job: score_job.Job, num: int) -> generation.Samples:
  """Draws `num` samples, each a function of (seed, its number) alone."""
  run, args = job.run, job.args
  labels = _labels(job.source, num)
  key = jax.random.key(args.seed)
  sampler = _sampler(run, key, labels)
  mesh = sharding.make_mesh({"data": -1})
  batch = args.sample_batch or run.config.sample.batch
  batch = -(-batch // mesh.size) * mesh.size

  def sample(indices: np.ndarray) -> dict[str, np.ndarray]:
    placed = jax.device_put(indices, sharding.batch_sharding(mesh))
    drawn = sampler(job.state, placed)
    found = {"images": drawn.images, "sizes": drawn.sizes}
    if labels is not None:
      found["labels"] = np.asarray(labels, np.int32)[indices % len(labels)]
    return scores.host(found)

  identity = {
    "step": job.step,
    "seed": args.seed,
    "average": not args.no_average,
    "labels": _policy(job.source),
    "sampling": dict(run.config.sample),
  }
  with scores.Bar("sampling (the first batch compiles)", num) as show:
    return generation.generate(
      sample,
      num,
      batch,
      job.folder / f"samples-{_label(job)}",
      identity=identity,
      progress=show,
    )


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


def write_tensorboard(job: score_job.Job, found: dict[str, float]) -> None:
  """Adds scores to the run's TensorBoard, where it keeps one."""
  folder = job.run.workdir / "tensorboard"
  writer = tensorboard.make(folder) if folder.is_dir() else None
  if writer is None:
    return
  finite = {f"eval/{k}": v for k, v in found.items() if np.isfinite(v)}
  writer.scalars(job.step, finite)
  writer.close()


def _images(samples, size, name) -> image_sets.ImageSet:
  """Makes a set of samples, cut to what counts of them."""

  def pieces(count):
    del count  # as they were drawn
    for part in samples.parts():
      yield image_sources.cut(part["images"], part["sizes"], size)

  return image_sets.ImageSet(name, len(samples), pieces)


def _sampler(run, key, labels) -> tasks.Sampler:
  adapter = run.adapter
  if not tasks.offers(run.task, "sample"):
    raise errors.CommandError(
      f"task {run.config.task} has nothing to sample: ask for --metrics="
      f"{RECONSTRUCTION}"
    )
  if tasks.offers(adapter, "make_requested_sampler"):
    asked = request.from_config(run.config, labels=labels)
    return adapter.make_requested_sampler(
      run.config, run.task, run.measured, key, asked
    )
  return adapter.make_sampler(run.config, run.task, run.measured, key)


def _policy(source) -> str:
  return "as in the reference" if source.num_classes else "none"


def _labels(source, num) -> tuple[int, ...] | None:
  """Takes the labels of evenly spaced records: the reference's histogram."""
  if not source.num_classes:
    return None
  places = np.arange(num, dtype=np.int64) * len(source) // num
  labels = np.empty(num, np.int64)
  for start in range(0, num, 1024):
    rows = slice(start, start + 1024)
    labels[rows] = [x["label"] for x in source.read(places[rows])]
  return tuple(int(x) for x in labels)


def _label(job: score_job.Job) -> str:
  args = job.args
  number = args.num_samples or compare.CONVENTION
  parts = [str(number), job.net.preprocess, f"seed{args.seed}"]
  return "-".join(parts + (["raw"] if args.no_average else []))


def _newest(workdir: Path) -> int:
  """Returns the newest step that has a checkpoint, or -1."""
  found = checkpoint.steps(rundir.RunDirectory(workdir).checkpoints)
  return found[-1] if found else -1


def _ended(workdir: Path) -> bool:
  return rundir.RunDirectory(workdir).status().get("state") in _FINAL


def _report_end(workdir: Path, step: int) -> int:
  if step < 0:
    raise errors.CommandError(f"{workdir} has ended without a checkpoint")
  return 0
