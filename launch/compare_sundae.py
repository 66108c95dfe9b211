"""Measures on the scenes what parts of SUNDAE are worth; writes two tables.

    python -m launch.compare_sundae --workdir=runs/compare-sundae
    python -m launch.compare_sundae --workdir=DIR --seeds=1 --num_steps=100

Trains each variant of `configs/sundae_scenes.py` with several seeds on the same
codes: ours, the reference (the released arithmetic), one and three unrolls, and
the autoregressive prior of as many parameters. Likelihoods do not compare, so
samples are judged by the rule of the classes and by the Fréchet distance of
their mean latents to those of held-out pictures. The second table has steps of
sampling against quality and time. Started again, it goes on where it was.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from evaluation import frechet, moments
from launch import (
  datasets,
  demo_figures,
  demo_sundae,
  errors,
  flags,
  request,
  runs,
  setup,
  train,
  variants,
)
from training import rundir, sharding

# Fields that differ from the config's.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
  "ours": {},
  "reference": {"model.reference": True},
  "no resampling": {"model.resampling": "none"},
  "1 unroll": {"train.unrolls": 1},
  "3 unrolls": {"train.unrolls": 3},
}
PRIOR = "autoregressive"
# Of the prior: as many parameters as SUNDAE has (1.8 million).
_PRIOR_FIELDS = {"model.layers": 8}
_STEPS = (5, 10, 20, 50)
_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Score:
  """What is measured of one run's samples.

  Attributes:
    colour: share whose main object has the label's colour.
    distance: Fréchet distance of mean latents to held-out pictures.
    seconds: a sample, without compilation.
    train_seconds: a training step.
    parameters: how many.
  """

  colour: float
  distance: float
  seconds: float
  train_seconds: float
  parameters: int


@errors.command
def main(argv: list[str]) -> int:
  """Runs the command."""
  parser = flags.Parser(__doc__, "launch.compare_sundae")
  add = parser.add_argument
  add("--workdir", type=Path, default=Path("runs/compare-sundae"), help="of it")
  add("--first_stage", default="vqgan_scenes", help="a run, or what ships")
  add("--seeds", type=int, default=3, help="runs a variant; default 3")
  add("--num_steps", type=int, default=500, help="of training; default 500")
  add("--num_samples", type=int, default=128, help="a run; default 128")
  names = ",".join([*VARIANTS, PRIOR])
  add("--variants", default=names, help=f"default: {names}")
  add("--tiny", action="store_true", help="everything small: to try it")
  args = parser.parse_arguments(argv)
  chosen = variants.chosen(parser, args.variants, [*VARIANTS, PRIOR])
  setup.start("auto")
  form = "tiny" if args.tiny else ""
  load = lambda name: demo_sundae.with_codes(
    flags.load(f"configs/{name}.py:{form}"),
    args.first_stage,
    args.workdir / "codes",
  )
  config = load("sundae_scenes")
  found: dict[str, list[Score]] = {}
  for seed in range(args.seeds):
    for name in chosen:
      fields = dict(VARIANTS.get(name, {}))
      base = config
      if name == PRIOR:
        base = load("prior_scenes")
        fields = {} if args.tiny else dict(_PRIOR_FIELDS)
      fields |= {"seed": seed, "train.num_steps": args.num_steps}
      folder = args.workdir / f"{name.replace(' ', '-')}-{seed}"
      made = run_variant(changed(base, fields), folder, args.num_samples)
      if made is None:
        return train.EXIT_RESUMABLE
      found.setdefault(name, []).append(made)
      print(f"{name}, seed {seed}: {made}", file=sys.stderr)
  lines = [*table(found), ""]
  if "ours" in found:
    lines += steps_table(args.workdir / "ours-0", args.num_samples)
  text = "\n".join(lines)
  (args.workdir / "tables.txt").write_text(text + "\n")
  print(text)
  return 0


def changed(
  config: ml_collections.ConfigDict, fields: Mapping[str, Any]
) -> ml_collections.ConfigDict:
  """Returns a config with some fields set, which evaluates at its end only."""
  num_steps = fields["train.num_steps"]
  warmup = min(config.optimizer.warmup_steps, num_steps // 10)
  return variants.changed(
    config,
    {
      **fields,
      "train.checkpoint_every": num_steps,
      "optimizer.warmup_steps": warmup,
    },
  )


def run_variant(
  config: ml_collections.ConfigDict, folder: Path, num: int
) -> Score | None:
  """Trains, samples and scores; what was done before is read.

  Returns None where a signal ended the training.

  Raises:
    CommandError: the folder holds a run of another number of steps.
  """
  steps = config.train.num_steps
  if (folder / "config.json").is_file():
    held = runs.load_config(folder).train.num_steps
    if held != steps:
      raise errors.CommandError(
        f"{folder} holds a run of {held} steps, not of {steps}: choose another "
        f"--workdir, or --num_steps={held}"
      )
  path = folder / f"score-{num}.json"
  if path.is_file():
    return Score(**json.loads(path.read_text("utf-8")))
  if not variants.trained(config, folder):
    return None
  run = runs.open_run(folder)
  state = _restore(run)
  colour, distance, seconds = judge(
    run, state, request.from_config(run.config), num
  )
  leaves = jax.tree.leaves(state.params)
  score = Score(
    colour,
    distance,
    seconds,
    variants.step_seconds(folder),
    sum(x.size for x in leaves),
  )
  rundir.write_json(path, dataclasses.asdict(score))
  return score


def judge(
  run: runs.Run, state: Any, asked: request.Request, num: int
) -> tuple[float, float, float]:
  """Draws samples; returns colour, distance and seconds a sample."""
  sampler = run.adapter.make_requested_sampler(
    run.config, run.task, run.measured, jax.random.key(0), asked
  )
  batch = min(_BATCH, num)
  draw = lambda start: jax.device_get(
    sampler(state, np.arange(start, start + batch, dtype=np.int32))
  )
  draw(0)  # compiles
  began = time.monotonic()
  drawn = [draw(start) for start in range(0, num, batch)]
  seconds = (time.monotonic() - began) / (len(drawn) * batch)
  join = lambda name: np.concatenate([getattr(x, name) for x in drawn])
  labels = np.concatenate([x.info["label"] for x in drawn])
  colour = demo_figures.colour_right(
    demo_figures.Pictures(join("images"), labels)
  )
  latents = _latents(run, state)
  ours = moments.of(latents(join("tokens")))
  return colour, frechet.distance(ours, _held_out(run, latents)), seconds


def table(found: Mapping[str, list[Score]]) -> list[str]:
  """Lays scores out: mean and range over seeds."""
  head = ("", "colour right", "Fréchet", "ms a sample", "ms a step", "params")
  lines = ["{:<16}{:>22}{:>22}{:>13}{:>11}{:>9}".format(*head)]
  for name, scores in found.items():
    column = lambda field, scores=scores: [getattr(x, field) for x in scores]
    lines.append(
      f"{name:<16}{variants.spread(column('colour')):>22}"
      f"{variants.spread(column('distance')):>22}"
      f"{1000 * np.median(column('seconds')):>13.1f}"
      f"{1000 * np.median(column('train_seconds')):>11.1f}"
      f"{scores[0].parameters / 1e6:>8.2f}M"
    )
  return lines


def steps_table(folder: Path, num: int) -> list[str]:
  """Measures steps of sampling against quality and time, for one run."""
  run = runs.open_run(folder)
  state = _restore(run)
  lines = [
    "{:<34}{:>13}{:>10}{:>13}".format(
      "steps", "colour right", "Fréchet", "ms a sample"
    )
  ]
  asked = [(f"{n} and argmax", {"steps": n, "argmax": True}) for n in _STEPS]
  asked += [
    ("20 without argmax", {"steps": 20, "argmax": False}),
    ("20, confident, and argmax", {"steps": 20, "confident": True}),
    (
      "20 at temperature 1, no argmax",
      {"steps": 20, "temperature": 1.0, "argmax": False},
    ),
  ]
  for name, fields in asked:
    wanted = request.from_config(run.config, **fields)
    colour, distance, seconds = judge(run, state, wanted, num)
    lines.append(
      f"{name:<34}{colour:>13.3f}{distance:>10.3f}{1000 * seconds:>13.1f}"
    )
  return lines


def _restore(run):
  mesh = sharding.make_mesh({"data": 1}, jax.devices()[:1])
  return run.restore(mesh).state


def _latents(run, state):
  """Return the function from codes [n, h, w] to mean latents [n, c]."""
  params = state.frozen.get("tokenizer", {})
  embed = jax.jit(
    lambda codes: run.task.tokenizer.embed(params, codes).mean((1, 2))
  )
  return lambda codes: np.asarray(embed(jnp.asarray(codes)), np.float64)


def _held_out(run, latents):
  source = datasets.open_source(run.config, run.config.data.eval_split)
  records = source.read(np.arange(len(source)))
  codes = np.stack([record["codes"] for record in records]).astype(np.int32)
  return moments.of(latents(codes))


if __name__ == "__main__":
  sys.exit(main())
