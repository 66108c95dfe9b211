"""Makes a run of ours of a checkpoint of the VQGAN authors.

    python -m launch.import_checkpoint --source=last.ckpt --config=model.yaml \
        --workdir=runs/imported
    python -m launch.sample --workdir=runs/imported --out=samples
    python -m launch.train --config=runs/imported/config.json \
        --config.data.dir=DATA --workdir=runs/imported --accept_changes

First stages (with a Gumbel quantizer, of label maps or depth too) and
transformers with theirs; `.ckpt`, `.pt`, `.pth` or `.safetensors`. The yaml is
the authors' own, unchanged; without it the shapes tell the configuration, but
for heads and classes. Nothing in the file is executed. Fields of our config are
overridden with --config.SECTION.FIELD=VALUE. What it was trained on is for you
to say: the data section is that of ImageNet.
"""

import argparse
import dataclasses
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax
import jax
import ml_collections
import numpy as np

from launch import errors, first_stages, flags, imported, runs, setup, tasks
from training import checkpoint, environment, rundir, trees
from training import state as state_lib
from vqgan import taming, taming_prior, taming_prior_tensors, taming_tensors
from vqgan import task as task_lib
from weights import lpips, torch_file

_SHOWN = 6  # names of inert objects


@dataclasses.dataclass(frozen=True)
class Imported:
  """A run before it is written.

  Attributes:
    config: of the run.
    params: replace those of step 0.
    model_state: replaces entries of that of step 0.
    measured: host arrays.
    stages: first stages that lie beside the run, by name.
  """

  config: ml_collections.ConfigDict
  params: Mapping[str, Any]
  model_state: Mapping[str, Any]
  measured: Mapping[str, np.ndarray]
  stages: Mapping[str, first_stages.FirstStage]


@errors.command
def main(argv: list[str]) -> int:
  """Runs the command."""
  args, overrides = _parse(argv)
  setup.start("cpu")
  tensors, steps = read(args.source)
  config = taming.read_config(args.config) if args.config else None
  if taming_prior.is_second_stage(tensors):
    found = second_stage(tensors, config, args)
  else:
    found = first_stage(tensors, config, args.resolution, steps)
  found.config.lock()
  for field, text in overrides:
    flags.override(found.config, field, text)
  state = write(found, args.workdir, args.source)
  _report(found, state, args.workdir)
  return 0


def read(path: Path) -> tuple[dict[str, np.ndarray], int | None]:
  """Reads a file, and says what it holds that is no tensor.

  Returns:
    (tensors, the steps that it was trained for or None).
  """
  tensors, steps = taming.read(path), None
  if path.suffix != ".safetensors":
    contents = torch_file.read(path)
    if isinstance(contents.value, dict):
      steps = contents.value.get("global_step")
    if inert := contents.stubs:
      more = f" and {len(inert) - _SHOWN} more" if len(inert) > _SHOWN else ""
      print(
        f"{path} holds {len(inert)} kinds of objects that are no tensors; none "
        f"was executed: {', '.join(inert[:_SHOWN])}{more}"
      )
  return tensors, steps if isinstance(steps, int) else None


def first_stage(
  tensors: taming.Tensors,
  config: Mapping[str, Any] | None,
  resolution: int,
  steps: int | None = None,
) -> Imported:
  """Reads a first stage.

  Args:
    tensors: the state dict.
    config: the yaml's `model` entry, or None.
    resolution: of the images, where there is no yaml.
    steps: that it was trained for, where the file says it.

  Raises:
    TamingError: names, shapes or settings do not fit.
  """
  if config is None:
    stage = taming.from_shapes(tensors, resolution)
  else:
    stage = taming.from_config(config, tensors)
  depth = (config or {}).get("params", {}).get("image_key") == "depth"
  params, state = taming_tensors.variables(tensors, stage)
  if "discriminator" in state:
    means = {name: np.zeros((), np.float32) for name in ("real", "made")}
    stats = {"batch_stats": state["discriminator"], "lecam": means}
    state = {**state, "discriminator": stats}
  measured = _lpips(tensors, stage)
  ours = imported.first_stage(stage, depth, bool(measured), steps)
  return Imported(ours, params, state, measured, {})


def second_stage(
  tensors: taming.Tensors,
  config: Mapping[str, Any] | None,
  args: argparse.Namespace,
) -> Imported:
  """Reads a transformer and the first stages that it came with.

  Args:
    tensors: the state dict.
    config: the yaml's `model` entry, or None.
    args: heads, classes and resolution, where there is no yaml.

  Raises:
    TamingError: names, shapes or settings do not fit.
  """
  if config is None:
    stage = taming_prior.from_shapes(
      tensors, args.heads, args.classes, args.resolution
    )
  else:
    stage = taming_prior.from_config(config, tensors)
  params = taming_prior_tensors.variables(tensors, stage)
  stages = {
    imported.TOKENIZER: _stage(
      taming_prior.first_stage(tensors), stage.first, depth=False
    )
  }
  first = stages[imported.TOKENIZER].config
  condition = None
  if stage.condition is stage.first:
    condition = first
  elif stage.condition is not None:
    own = taming_prior.condition_stage(tensors)
    depth = stage.kind == "depth"
    stages[imported.CONDITION] = _stage(own, stage.condition, depth)
    condition = stages[imported.CONDITION].config
  ours = imported.second_stage(stage, first, condition)
  return Imported(ours, params, {}, {}, stages)


def write(found: Imported, workdir: Path, source: Path) -> state_lib.State:
  """Writes the directory of a run at step 0, whole or not at all.

  Returns:
    Its state.

  Raises:
    CommandError: the directory is not empty.
  """
  if workdir.exists() and any(workdir.iterdir()):
    raise errors.CommandError(
      f"{workdir} is not empty: choose another --workdir"
    )
  making = workdir.absolute().with_name(f".{workdir.name}.importing")
  shutil.rmtree(making, ignore_errors=True)
  making.mkdir(parents=True)
  try:
    state = _write(found, making, workdir, source)
    workdir.mkdir(exist_ok=True)
    making.rename(workdir)
  finally:
    shutil.rmtree(making, ignore_errors=True)
  return state


def _write(found, making, workdir, source):
  """Fills the directory `making`, which is to become `workdir`."""
  for name, stage in found.stages.items():
    first_stages.save(stage, making / name)
  config = found.config
  adapter = tasks.get(config.task)
  measured = dict(found.measured)
  if found.stages:
    _point(config, making, found.stages)
    measured |= adapter.measure(config, ())
    _point(config, workdir, found.stages)
  task = adapter.make_task(config, measured)
  state = _state(task, found, measured)
  directory = rundir.RunDirectory.open(
    making,
    config.to_dict(),
    environment=environment.describe(
      seed=config.seed, data={"name": f"imported from {source.name}"}
    ),
  )
  try:
    runs.measure(making, lambda: measured)
    saver = checkpoint.Checkpointer(directory.checkpoints)
    note = {"pending": {}, "metrics_bytes": 0}  # as `training.loop` leaves one
    saver.save(state, info=note, wait=True)
  finally:
    directory.close()
  return state


def _point(config, folder, stages):
  """Lets a prior's config name its first stages."""
  with config.unlocked():
    config.tokenizer.weights = str(folder / imported.TOKENIZER)
    if config.condition.stage.like.task:
      own = imported.CONDITION
      own = own if own in stages else imported.TOKENIZER
      config.condition.stage.weights = str(folder / own)


def _state(task, found, measured):
  """Returns the state of step 0 with what was read in its place."""

  def absent(tree, known):
    return {name: x for name, x in tree.items() if name not in known}

  # What is read need not be drawn, and what is not returned not compiled.
  @jax.jit
  def rest(measured):
    state = task.init(jax.random.key(0), measured)
    return state.replace(
      params=absent(state.params, found.params),
      model_state=absent(state.model_state, found.model_state),
      ema=None,
    )

  shapes = jax.eval_shape(task.init, jax.random.key(0), measured)
  fresh = rest(measured)
  params = {**fresh.params, **found.params}
  params = absent(params, params.keys() - shapes.params.keys())
  model_state = {**fresh.model_state, **found.model_state}
  unused = model_state.keys() - shapes.model_state.keys()
  ema = None
  if shapes.ema is not None:
    ema = {name: jax.tree.map(np.copy, params[name]) for name in shapes.ema}
  state = fresh.replace(
    params=params, ema=ema, model_state=absent(model_state, unused)
  )
  _check(shapes, state)
  return state


def _check(shapes, state):
  """Stops where overrides made the config that of another model."""
  wanted, given = trees.flatten(shapes), trees.flatten(state)
  wrong = [
    f"{name} {given[name].shape} (needs {wanted[name].shape})"
    for name in wanted.keys() & given.keys()
    if wanted[name].shape != given[name].shape
  ]
  wrong += wanted.keys() ^ given.keys()
  if wrong:
    raise errors.CommandError(
      "the config does not fit the checkpoint any more, undo the overrides: "
      + taming_tensors.listed(wrong)
    )


def _stage(tensors, stage, depth):
  """Returns a first stage as a tokenizer: its autoencoder alone."""
  params, _ = taming_tensors.variables(tensors, stage)
  flat = flax.traverse_util.flatten_dict(params["generator"], sep="/")
  config = imported.first_stage(stage, depth, perceptual=False)
  named = {name: np.asarray(array) for name, array in flat.items()}
  return first_stages.FirstStage(config, named, "the checkpoint")


def _lpips(tensors, stage):
  """Returns the weights of LPIPS: the file's, or those on this machine."""
  if stage.target == "segmentation" or stage.shape.in_channels not in (1, 3):
    return {}
  inside = taming.part(tensors, "loss.perceptual_loss.")
  try:
    if inside:
      backbone = {
        f"features.{name.split('.', 2)[2]}": x
        for name, x in inside.items()
        if name.startswith("net.slice")
      }
      params = lpips.convert("vgg", backbone, inside)
    else:
      params = lpips.load("vgg")
  except (ValueError, OSError) as error:
    print(f"training would go on without LPIPS ({error})")
    return {}
  return task_lib.lpips_arrays(params)


def _report(found, state, workdir):
  """Says what was made and what can be done with it."""
  config = found.config
  count = sum(x.size for x in jax.tree.leaves(state.params))
  quoted = shlex.quote(str(workdir))
  print(f"{workdir}: task {config.task}, {count:,} parameters, step 0")
  if config.task == "prior":
    print(f"python -m launch.sample --workdir={quoted} --out=samples")
  else:
    print(f"python -m launch.tokenize --workdir={quoted} --out=codes")
  print(
    f"python -m launch.train --config={quoted}/config.json "
    f"--config.data.dir=DATA --workdir={quoted} --accept_changes"
  )


def _parse(
  argv: Sequence[str],
) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
  parser = flags.Parser(__doc__, "launch.import_checkpoint")
  parser.add_argument(
    "--source", type=Path, required=True, help="checkpoint of the authors"
  )
  parser.add_argument("--config", type=Path, help="the yaml beside it")
  parser.add_argument(
    "--workdir", type=Path, required=True, help="directory of the new run"
  )
  parser.add_argument(
    "--resolution",
    type=int,
    default=256,
    help="of the images, without a yaml (256)",
  )
  parser.add_argument(
    "--heads",
    type=int,
    default=0,
    help="of the transformer, without a yaml (16; 24 at width 1536)",
  )
  parser.add_argument(
    "--classes",
    type=int,
    default=0,
    help="of a class-conditional transformer, without a yaml (0)",
  )
  rest, overrides = flags.split_overrides(argv)
  return parser.parse_arguments(rest), overrides


if __name__ == "__main__":
  sys.exit(main())
