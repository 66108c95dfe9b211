"""Scores images against a reference, or a run's samples against its data.

    python -m launch.evaluate --samples=X --reference=Y --out=scores.json
    python -m launch.evaluate --workdir=RUN --metrics=fid,is,precision_recall
    python -m launch.evaluate --workdir=RUN --metrics=fid --watch
    python -m launch.evaluate --workdir=RUN --metrics=reconstruction
    python -m launch.evaluate --workdir=RUN --metrics=reconstruction \
      --split=train --num_images=50000
    python -m launch.evaluate --workdir=RUN --metrics=fid,nearest,per_class

X and Y: a folder of images, an .npz or .npy of images, samples of
launch.sample, tfds:NAME/SPLIT, or statistics of launch.statistics, ADM or
pytorch-fid; of X as statistics only what such a file allows is scored. Without
--reference a run is compared with its training split. Sampling goes on where it
was stopped, and more samples add to those that are there; they stay in
RUN/eval/STEP/samples-*, where 50,000 of 256 x 256 pixels take 9.8 GB, unless
--discard_samples deletes them once they have scores. --watch scores every
checkpoint that it finds, oldest first, until training has ended: train.keep
decides how many wait for it. Every number says what decides it; the public
Inception weights are fetched once, or given with --inception; with random:SEED,
for tests, nothing is called FID.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from evaluation import compare, report
from launch import (
  errors,
  flags,
  image_sources,
  run_scores,
  scores,
  setup,
  statistics_scores,
)

# Options of samples that a run draws, and of a run.
_OF_DRAWN = (
  *("num_samples", "reference", "seed", "sample_batch", "discard_samples"),
)
_OF_RUNS = (
  *("seed", "sample_batch", "no_average", "step", "watch", "poll"),
  *("discard_samples", "split", "num_images"),
)
_OF_RECONSTRUCTIONS = ("split", "num_images")
METRICS = (*compare.METRICS, *scores.PAIRED, *run_scores.METRICS)


def asked(argv: Sequence[str]) -> bool:
  """Says whether a command line of launch.evaluate is for this module."""
  for word, following in zip(argv, [*argv[1:], ""]):
    name, _, value = word.partition("=")
    if name == "--samples":
      return True
    if name == "--metrics" and {*(value or following).split(",")} & {*METRICS}:
      return True
  return False


def main(argv: list[str]) -> int:
  """Runs the command; `launch.evaluate` calls it."""
  args = _parse(argv)
  setup.start(args.platform)
  if args.workdir:
    setup.log_to_terminal()
    return run_scores.main(args)
  if scores.is_statistics(args.samples):
    result = statistics_scores.score(args)
  else:
    result = score_sets(args)
  if jax.process_index() == 0:
    report.write(args.out, result)
    print(report.table(result, args.dataset))
    print(args.out)
  return 0


def score_sets(args: argparse.Namespace) -> dict[str, Any]:
  """Scores --samples against --reference; returns the result to write."""
  rest = [name for name in args.metrics if name not in scores.PAIRED]
  # Before the pairs: its weights may be absent. They need none.
  net = scores.open_network(args.inception, args.preprocess) if rest else None
  images = image_sources.open_images(
    args.samples,
    size=args.size,
    transform=args.transform,
    data_dir=args.data_dir,
  )
  if args.num_samples:
    images = images.take(args.num_samples)
  found: dict[str, float] = {}
  notes = list(images.notes)
  paired = [name for name in args.metrics if name in scores.PAIRED]
  if paired:
    if not args.reference or scores.is_statistics(args.reference):
      raise errors.CommandError(
        f"{', '.join(paired)} compare pairs of images: give images as"
        " --reference"
      )
    others = image_sources.open_images(
      args.reference, size=args.size, data_dir=args.data_dir
    )
    found, extracted = scores.score_pairs(images, others, paired, args.batch)
  against, real = None, None
  if net is not None:
    if args.reference:
      against, real = scores.open_reference(
        args.reference, net, args.batch, args.size, args.data_dir
      )
    extracted = scores.extract_like(images, net, args.batch, against)
    scored, said = scores.score(
      extracted, net, images.name, against, real, rest
    )
    found, notes = found | scored, notes + said
  return scores.describe(
    images.name,
    args.reference or "nothing",
    extracted,
    net,
    found,
    notes,
    crop=scores.crop_name(args.size),
    transform=args.transform,
    num_reference=against and against.pool.count,
    reference_metadata=against and against.metadata,
  )


def _parse(argv: list[str]) -> argparse.Namespace:
  parser = flags.Parser(__doc__, "launch.evaluate")
  add = parser.add_argument
  add("--samples", default="", help="images to score")
  add("--workdir", type=Path, help="or: a run to sample from")
  add("--reference", default="", help="images or statistics")
  add("--metrics", default="", help=f"comma-separated: {', '.join(METRICS)}")
  add("--num_samples", type=int, default=0, help="default: all, or 50,000")
  add("--split", default="", help="to reconstruct; default: data.eval_split")
  add("--num_images", type=int, default=0, help="of it; default: all")
  add("--transform", default="", help="lowres8 or grey: of --samples")
  add("--dataset", default="", help="show the published figures of it")
  add("--out", type=Path, default=Path("scores.json"), help="of --samples")
  add("--seed", type=int, default=0, help="of a run's samples")
  add("--sample_batch", type=int, default=0, help="default: sample.batch")
  add("--no_average", action="store_true", help="not the moving average")
  add("--step", type=flags.step, help=flags.STEP)
  add("--watch", action="store_true", help="each checkpoint, also new ones")
  add("--discard_samples", action="store_true", help="of a run, once scored")
  add("--poll", type=float, default=30.0, help="seconds between looks")
  scores.add_options(parser)
  args = parser.parse_arguments(argv)
  scores.check_options(parser, args)
  if bool(args.samples) == bool(args.workdir):
    parser.error("give one of --samples=X and --workdir=RUN")
  if args.num_samples < 0 or args.sample_batch < 0:
    parser.error("--num_samples and --sample_batch must not be negative")
  if args.num_images < 0 or args.num_images == 1:
    parser.error(f"--num_images {args.num_images} must be at least 2, or 0")
  if args.dataset and args.dataset not in report.datasets():
    parser.error(
      f"no published figures of {args.dataset!r}"
      f"{flags.did_you_mean(args.dataset, report.datasets())}"
    )
  own = scores.PAIRED if args.samples else run_scores.METRICS
  known = (*compare.METRICS, *own)
  args.metrics = args.metrics.split(",") if args.metrics else compare.DEFAULT
  _refuse_what_means_nothing(parser, args)
  for name in args.metrics:
    if name == "likelihood":
      parser.error("measure likelihood in a call of its own")
    if name not in known:
      parser.error(f"no metric {name!r}{flags.did_you_mean(name, known)}")
  return args


def _refuse_what_means_nothing(
  parser: flags.Parser, args: argparse.Namespace
) -> None:
  """Stops where an option would change nothing of what was asked for."""
  pairs: list[tuple[str, Sequence[str]]] = []
  if args.samples:
    pairs.append(("--workdir=RUN", _OF_RUNS))
  else:
    pairs.append(("--samples=X", ("out", "transform")))
    if not args.watch:
      pairs.append(("--watch", ("poll",)))
    if run_scores.RECONSTRUCTION not in args.metrics:
      owner = f"--metrics={run_scores.RECONSTRUCTION}"
      pairs.append((owner, _OF_RECONSTRUCTIONS))
    if {*args.metrics} == {run_scores.RECONSTRUCTION}:
      pairs.append(("scores of samples", _OF_DRAWN))
  for owner, names in pairs:
    for name in names:
      if getattr(args, name) != parser.get_default(name):
        parser.error(f"--{name} belongs to {owner}")
  if args.step is not None and args.watch:
    parser.error("--step belongs to --workdir=RUN without --watch")
