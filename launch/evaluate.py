"""Measures a trained run on a split.

    python -m launch.evaluate --workdir=runs/scenes --metrics=likelihood

Prints a table and writes eval/<step>/<metric>-<split>.json, which says all that
decides the numbers. Without --num_examples the whole split is measured.

    python -m launch.evaluate --workdir=runs/scenes --metrics=fid,is
    python -m launch.evaluate --samples=X --reference=Y

FID and the other scores of pictures, for which `--samples=X --help` lists the
options: see launch/score_command.py.
"""

import dataclasses
import datetime
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from data import source as source_lib
from evaluation import jpeg, likelihood
from launch import (
  datasets,
  errors,
  evaluators,
  flags,
  runs,
  score_command,
  setup,
  tasks,
)
from training import environment, rundir, sharding
from training import state as state_lib

_IMAGES_AT_ONCE = 32


@dataclasses.dataclass(frozen=True)
class Job:
  """What a metric is measured on.

  Attributes:
    run: the opened run.
    state: restored, for sampling.
    step: of the checkpoint.
    source: the split.
    mesh: where the state lives.
    limit: number of examples, None for all.
  """

  run: runs.Run
  state: state_lib.State
  step: int
  source: source_lib.Source
  mesh: Mesh
  limit: int | None


@errors.command
def main(argv: list[str]) -> int:
  """Runs the command."""
  if score_command.asked(argv):
    return score_command.main(argv)
  parser = flags.Parser(__doc__, "launch.evaluate")
  parser.add_argument(
    "--workdir", type=Path, required=True, help="directory of the run"
  )
  parser.add_argument(
    "--metrics",
    default="likelihood",
    help=f"comma-separated: {', '.join(METRICS)}",
  )
  parser.add_argument("--split", default="", help="default: data.eval_split")
  parser.add_argument(
    "--num_examples", type=int, default=0, help="0 = the whole split"
  )
  parser.add_argument(
    "--batch", type=int, default=0, help="default: eval.batch_size of the run"
  )
  parser.add_argument(
    "--data_dir", default="", help="where its data are now; default: data.dir"
  )
  parser.add_argument(
    "--no_average",
    action="store_true",
    help="use the parameters, not their moving average",
  )
  parser.add_argument("--step", type=flags.step, help=flags.STEP)
  parser.add_argument(
    "--platform", default="auto", help=f"one of {', '.join(setup.PLATFORMS)}"
  )
  args = parser.parse_arguments(argv)
  names = args.metrics.split(",")
  for name in names:
    if name not in METRICS:
      parser.error(f"no metric {name!r}{flags.did_you_mean(name, [*METRICS])}")
  if args.num_examples < 0:
    parser.error(f"--num_examples {args.num_examples} must not be negative")
  if args.batch < 0:
    parser.error(f"--batch {args.batch} must not be negative")
  runs.load_config(args.workdir)  # before anything slow
  setup.start(args.platform)
  setup.log_to_terminal()
  job = open_job(
    args.workdir,
    args.split,
    args.num_examples or None,
    average=not args.no_average,
    step=args.step,
    batch=args.batch,
    data_dir=args.data_dir,
  )
  for name in names:
    content = evaluate(job, name, average=not args.no_average)
    path = write(job, name, content)
    if jax.process_index() == 0:
      print(table(content))
      print(path)
  return 0


def open_job(
  workdir: Path,
  split: str = "",
  limit: int | None = None,
  average: bool = True,
  step: int | str | None = None,
  batch: int = 0,
  data_dir: str = "",
) -> Job:
  """Opens a run, a checkpoint and a split of its data.

  Args:
    workdir: of the run.
    split: "" for the evaluation split.
    limit: examples; None for all.
    average: take the moving average of the parameters.
    step: of the checkpoint; None for the newest.
    batch: rows at a time; 0 for the run's eval.batch_size.
    data_dir: where the data are now; "" for the run's data.dir.
  """
  run = runs.open_run(workdir)
  with run.config.unlocked():
    if batch:
      run.config.eval.batch_size = batch
    if data_dir:
      run.config.data.dir = data_dir
  # Not the mesh of the run: this may be another machine.
  mesh = sharding.make_mesh({"fsdp": -1})
  source = datasets.open_source(run.config, split or run.config.data.eval_split)
  restored = run.restore(mesh, average, step)
  return Job(run, restored.state, restored.step, source, mesh, limit)


def evaluate(job: Job, metric: str, average: bool = True) -> dict[str, Any]:
  """Measures one metric: its values, and all that decides them."""
  began = time.monotonic()
  values = METRICS[metric](job)
  count = len(job.source) if job.limit is None else job.limit
  return {
    "metric": metric,
    "values": dict(values),
    "num_examples": min(count, len(job.source)),
    "split_size": len(job.source),
    "comparable": count >= len(job.source),
    "dataset": job.source.name,
    "dataset_fingerprint": job.source.fingerprint,
    "workdir": str(job.run.workdir),
    "step": job.step,
    "average": average,
    "config": job.run.config.to_dict(),
    "seconds": round(time.monotonic() - began, 1),
    "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "environment": environment.describe(),
  }


def write(job: Job, metric: str, content: Mapping[str, Any]) -> Path:
  """Writes the file of a metric atomically, on process 0."""
  split = job.source.name.split()[-1].replace("/", "-")
  folder = job.run.workdir / "eval" / str(job.step)
  path = folder / f"{metric}-{split}.json"
  if jax.process_index() == 0:
    folder.mkdir(parents=True, exist_ok=True)
    rundir.write_json(path, content)
  return path


def table(content: Mapping[str, Any]) -> str:
  """Lays the values of a metric out for the terminal."""
  head = (
    f"{content['metric']} of step {content['step']} on "
    f"{content['num_examples']:,} of {content['split_size']:,} examples of "
    f"{content['dataset']}"
  )
  if not content["comparable"]:
    head += " (a part of the split: not comparable)"
  width = max(len(name) for name in content["values"])
  lines = [
    f"  {name:<{width}}  {x:.6g}" for name, x in content["values"].items()
  ]
  return "\n".join([head, *lines])


def rates_of_dealt_labels(job: Job) -> dict[str, float]:
  """Measures the likelihood with labels drawn at random, of a run with classes.

  A model that ignores its label would spend less than that, and more than one
  that is told the truth.
  """
  key, classes = jax.random.key(job.run.config.seed), job.source.num_classes

  @jax.jit
  @jax.vmap  # by example: all chunks of a picture have one label
  def deal(example_id):
    return jax.random.randint(
      jax.random.fold_in(key, example_id), (), 0, classes
    )

  return _rates(
    job, lambda batch: {**batch, "label": deal(batch["example_id"])}
  )


def _likelihood(job: Job) -> dict[str, float]:
  """Bits an element, a pixel and an image, beside JPEG's on the same images."""
  rates = _rates(job)
  if tasks.offers(job.run.adapter, "jpeg_quality"):
    rates |= _jpeg(job, rates.get("bits_per_pixel"))
  return rates


def _rates(job: Job, change: Callable = lambda batch: batch):
  """Measures the likelihood of batches that `change` has passed."""
  run = job.run
  batches = datasets.eval_batches(
    run.config, run.adapter, run.measured, job.source, job.mesh, job.limit
  )
  sums = likelihood.measure(
    jax.jit(run.task.eval_step),
    job.state,
    map(change, batches),
    jax.random.key(run.config.seed),
  )
  wrong = sums.nonfinite()
  if wrong:
    raise errors.CommandError(
      f"not finite: {', '.join(wrong)}: the checkpoint of step {job.step} is "
      "of a run that diverged",
      "python -m launch.report --workdir=" + shlex.quote(str(run.workdir)),
    )
  return evaluators.rates(sums, run.adapter)


def _jpeg(job: Job, bits_per_pixel: float | None) -> dict[str, float]:
  """What baseline JPEG spends on the same pictures.

  They are framed in NumPy: where a picture is resized, its pixels differ by a
  rounding from those that TensorFlow resized for the likelihood.
  """
  run = job.run
  quality = run.adapter.jpeg_quality(run.config)
  bits, pixels, count = 0, 0, 0
  batches = datasets.image_batches(
    run.config, run.adapter, job.source, _IMAGES_AT_ONCE, job.limit
  )
  for batch in batches:
    for index in np.flatnonzero(batch["mask"]):
      h, w = batch["size"][index]
      image = np.ascontiguousarray(batch["image"][index, :h, :w])
      bits += jpeg.scan_bits(image, quality)
      pixels += int(h) * int(w)
      count += 1
  found = {
    "jpeg_quality": float(quality),
    "jpeg_bits_per_pixel": bits / pixels,
    "jpeg_bits_per_image": bits / count,
  }
  if bits_per_pixel is not None:
    found["bits_over_jpeg"] = bits_per_pixel * pixels / bits
  return found


METRICS: Mapping[str, Callable[[Job], Mapping[str, float]]] = {
  "likelihood": _likelihood,
}


if __name__ == "__main__":
  sys.exit(main())
