"""Trains a model, or goes on training it.

    python -m launch.train --config=configs/dct_scenes.py --workdir=runs/scenes
    python -m launch.train --config=configs/dct_imagenet.py --dry_run

The same command resumes a run from its newest good checkpoint, bit for bit.
Fields are overridden with --config.SECTION.FIELD=VALUE. Ends with 0 when the
run is complete and with 75 when a signal stopped it, with a checkpoint saved:
then the same command goes on.
"""

import dataclasses
import json
import logging
import shlex
import sys
from pathlib import Path
from typing import TextIO

import jax
import ml_collections
import numpy as np

from data import source as source_lib
from launch import (
  batch_sizes,
  datasets,
  dry_run,
  errors,
  evaluators,
  flags,
  plans,
  runs,
  score_evaluator,
  setup,
  tasks,
)
from training import (
  checkpoint,
  environment,
  loop,
  options,
  rundir,
  sharding,
  tensorboard,
)

# EX_TEMPFAIL of sysexits.h: "try again later".
EXIT_RESUMABLE = 75

_logger = logging.getLogger(__name__)


@errors.command
def main(argv: list[str]) -> int:
  """Runs the command."""
  parser = flags.Parser(__doc__, "launch.train", config="required")
  parser.add_argument("--workdir", type=Path, help="directory of the run")
  parser.add_argument(
    "--dry_run", action="store_true", help="describe the run and stop"
  )
  parser.add_argument(
    "--accept_changes",
    action="store_true",
    help="go on although the config differs from the one the run began with",
  )
  parser.add_argument(
    "--no_tensorboard",
    action="store_true",
    help="write no TensorBoard files beside metrics.jsonl",
  )
  args = parser.parse_arguments(argv)
  if args.dry_run:
    setup.compile_cache()
    print(dry_run.report(args.config))
    return 0
  if args.workdir is None:
    parser.error("--workdir=DIR is missing (or --dry_run)")
  setup.start(args.config.platform)
  setup.log_to_terminal()
  try:
    finished = train(
      args.config,
      args.workdir,
      accept_changes=args.accept_changes,
      write_tensorboard=not args.no_tensorboard,
      stream=sys.stderr,
    )
  except rundir.ConfigChangedError as error:
    again = ["python", "-m", "launch.train", *argv, "--accept_changes"]
    raise errors.CommandError(str(error), shlex.join(again)) from error
  if finished.reason == "completed":
    print(f"finished at step {finished.step}: {args.workdir}")
    return 0
  print(
    f"{finished.reason}: saved at step {finished.step}, the same command "
    f"goes on: {args.workdir}"
  )
  return EXIT_RESUMABLE


def train(
  config: ml_collections.ConfigDict,
  workdir: Path,
  *,
  accept_changes: bool = False,
  write_tensorboard: bool = True,
  stream: TextIO | None = None,
  stop_at: int = 0,
) -> options.Finished:
  """Trains from the newest good checkpoint, or from the start, to the end.

  Args:
    config: locked; the same at every start of a run, up to what
      `runs.MAY_CHANGE` lists.
    workdir: directory of the run, shared by all hosts.
    accept_changes: go on with any other config whose state has the same shape.
    write_tensorboard: also write TensorBoard files, where it is installed.
    stream: shows progress there; None is silent.
    stop_at: a step to save and stop at, whence the same call goes on; 0 goes to
      the end.
  Raises:
    ValueError: the config, the data or the run directory is at fault.
  """
  # What a config, its devices and its dataset's own description can show to be
  # wrong fails before anything is written.
  plan = plans.make(config)
  adapter = plan.adapter
  net = score_evaluator.open_network(config, plan.task)
  mesh = sharding.make_mesh(config.mesh.to_dict())
  batch_sizes.check_mesh(config, adapter, mesh)
  source = datasets.open_source(config, config.data.split)
  eval_source = None
  if config.eval.every:
    eval_source = datasets.open_source(config, config.data.eval_split)
  if tasks.offers(adapter, "check_source"):
    for opened in filter(None, (source, eval_source)):
      adapter.check_source(config, opened)
  plan.check_sampler(source.num_classes)
  directory = _open_directory(config, workdir, source, accept_changes)
  if tasks.offers(adapter, "remarks"):
    for line in adapter.remarks(config):
      _logger.warning("%s", line)
  try:
    measured = _measured(config, adapter, source, workdir)
    task = adapter.make_task(config, measured)
    writer = None
    if write_tensorboard:
      writer = tensorboard.make(workdir / "tensorboard")
    return loop.run(
      task,
      lambda step: datasets.train_batches(
        config, adapter, measured, source, mesh, step
      ),
      dataclasses.replace(plan.options, stop_at=stop_at),
      directory,
      mesh,
      rule=adapter.RULE,
      measured=measured,
      evaluators=_evaluators(
        runs.Run(workdir, config, adapter, measured, task),
        mesh,
        eval_source,
        net,
      ),
      writers=() if writer is None else (writer,),
      stream=stream,
    )
  finally:
    directory.close()


def _open_directory(
  config: ml_collections.ConfigDict,
  workdir: Path,
  source: source_lib.Source,
  accept_changes: bool,
) -> rundir.RunDirectory:
  """Opens the run directory; one without a checkpoint is begun anew."""
  directory = rundir.RunDirectory(workdir)
  begun = bool(checkpoint.steps(directory.checkpoints))
  may_change = runs.MAY_CHANGE
  if accept_changes or not begun:
    # Whole sections and single fields.
    may_change = [
      f"{name}." if isinstance(value, ml_collections.ConfigDict) else name
      for name, value in config.items()
    ]
  elif jax.process_index() == 0:
    _check_source(workdir, source)
  primary = jax.process_index() == 0
  opened = rundir.RunDirectory.open(
    workdir,
    config.to_dict(),
    environment=environment.describe(
      seed=config.seed,
      data={"name": source.name, "fingerprint": source.fingerprint},
    ),
    may_change=may_change,
    primary=primary,
  )
  if primary and not begun:
    (workdir / runs.MEASURED).unlink(missing_ok=True)
  return opened


def _check_source(workdir: Path, source: source_lib.Source) -> None:
  """Stops where the dataset is not the one that the run began with."""
  try:
    content = json.loads((workdir / "env.json").read_text("utf-8"))
  except (OSError, ValueError):
    return  # lost or damaged: nothing to compare with
  before = content.get("data", {}).get("fingerprint")
  if before not in (None, source.fingerprint):
    raise errors.CommandError(
      f"the dataset {source.name} has changed since the run in {workdir} began "
      f"(fingerprint {before}, now {source.fingerprint}): bring the old one "
      "back, choose another --workdir, or go on with --accept_changes"
    )


def _measured(
  config: ml_collections.ConfigDict,
  adapter: tasks.Adapter,
  source: source_lib.Source,
  workdir: Path,
) -> tasks.Measured:
  """Measures the training split once a run."""
  if not tasks.offers(adapter, "measure"):
    return {}

  def compute():
    limit = min(config.data.num_measured, len(source))
    _logger.info("measuring %d examples of %s", limit, source.name)
    batches = datasets.measure_batches(config, adapter, source, limit)
    measured = dict(adapter.measure(config, batches))
    return {**measured, "num_classes": np.int32(source.num_classes)}

  return runs.measure(workdir, compute)


def _evaluators(run: runs.Run, mesh, eval_source, net):
  """Makes the evaluators that the config schedules."""
  config, adapter, task = run.config, run.adapter, run.task
  measured = run.measured
  key = jax.random.key(config.seed)
  limit = config.eval.num_examples
  made = []
  if eval_source is not None:
    made.append(
      evaluators.Likelihood(
        task,
        adapter,
        lambda: datasets.eval_batches(
          config, adapter, measured, eval_source, mesh, limit
        ),
        key,
        config.eval.every,
      )
    )
  if config.sample.every and tasks.offers(adapter, "make_sampler"):
    made.append(
      evaluators.Pictures(
        adapter.make_sampler(config, task, measured, key),
        config.sample.num,
        config.sample.batch,
        config.sample.every,
      )
    )
  if net is not None:
    made.append(score_evaluator.make(run, net, mesh, key))
  return made


if __name__ == "__main__":
  sys.exit(main())
