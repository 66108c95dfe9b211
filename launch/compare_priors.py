"""Compares priors on the scenes: Transformer, PixelSNAIL, and f = 1.

    python -m launch.compare_priors --workdir=runs/compare-priors
    python -m launch.compare_priors --workdir=DIR --num_steps=200

Trains `configs/prior_scenes.py` as it is, as a PixelSNAIL of about as many
parameters, and over the colours of a palette in pictures of 16 x 16 pixels,
all with one constant rate, and prints their negative log-likelihood at equal
steps and at equal time (Esser et al. 2021, Table 1 and Fig. 7). Likelihoods of
the palette's pixels do not compare with those of codes: its samples do, by the
rule of the classes. Started again, it goes on where it was.
"""

import dataclasses
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections

from launch import (
  demo_figures,
  errors,
  evaluate,
  flags,
  request,
  sample,
  setup,
  train,
  variants,
)
from training import checkpoint, rundir, trees

# Fields that differ from the config's.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
  "transformer": {},
  "pixelsnail": {
    "model.name": "pixelsnail",
    "model.layers": 1,
    "model.width": 80,
    "model.class_scale": 0.02,
  },
  "palette": {
    "tokenizer.weights": "",
    "tokenizer.like.task": "palette",
    "tokenizer.like.num_codes": 256,
    "data.name": "scenes/32",
    "data.size": (16, 16),
  },
}
# Checkpoints of a run, that equal time chooses from.
_CHECKPOINTS = 10


@dataclasses.dataclass(frozen=True)
class Line:
  """One row of the table.

  Attributes:
    parameters: how many.
    seconds: of a training step.
    steps: all of them.
    nats: a code, held out, after all steps.
    steps_in_time: of the checkpoint that the Transformer's time allows.
    nats_in_time: its nats a code.
    colour: share of samples, of the last checkpoint, in the label's colour.
  """

  parameters: int
  seconds: float
  steps: int
  nats: float
  steps_in_time: int
  nats_in_time: float
  colour: float


@errors.command
def main(argv: list[str]) -> int:
  """Runs the command."""
  parser = flags.Parser(__doc__, "launch.compare_priors")
  add = parser.add_argument
  add("--workdir", type=Path, default=Path("runs/compare-priors"), help="of it")
  add("--num_steps", type=int, default=500, help="of training; default 500")
  add("--num_samples", type=int, default=96, help="a run; default 96")
  add("--tiny", action="store_true", help="everything small: to try it")
  args = parser.parse_arguments(argv)
  setup.start("auto")
  config = flags.load(f"configs/prior_scenes.py:{'tiny' if args.tiny else ''}")
  for name, fields in VARIANTS.items():
    made = changed(config, fields, args.num_steps, args.tiny)
    if not variants.trained(made, args.workdir / name):
      return train.EXIT_RESUMABLE
  text = "\n".join(table(lines(args.workdir, args.num_samples)))
  (args.workdir / "table.txt").write_text(text + "\n")
  print(text)
  return 0


def changed(
  config: ml_collections.ConfigDict,
  fields: Mapping[str, Any],
  num_steps: int,
  tiny: bool = False,
) -> ml_collections.ConfigDict:
  """Returns the config of a variant, with a constant rate.

  Args:
    config: of the Transformer.
    fields: that differ.
    num_steps: of training.
    tiny: keep the sizes of the model.
  """
  kept = ("model.layers", "model.width") if tiny else ()
  fields = {name: x for name, x in fields.items() if name not in kept}
  return variants.changed(
    config,
    {
      **fields,
      "optimizer.schedule": "constant",
      "train.num_steps": num_steps,
      "train.checkpoint_every": max(1, num_steps // _CHECKPOINTS),
      "train.keep": 2 * _CHECKPOINTS,
    },
  )


def lines(workdir: Path, num_samples: int) -> dict[str, Line]:
  """Measures finished runs; returns a line of the table for each."""
  seconds = {name: variants.step_seconds(workdir / name) for name in VARIANTS}
  # What the Transformer took for all its steps is the time that all have.
  found = {}
  for name in VARIANTS:
    folder = workdir / name
    steps = checkpoint.steps(rundir.RunDirectory(folder).checkpoints)
    time = seconds["transformer"] * steps[-1]
    reached = [step for step in steps if step * seconds[name] <= time]
    early = reached[-1] if reached else steps[0]
    job = evaluate.open_job(folder)
    asked = request.from_config(job.run.config, temperature=0.9)
    batch = min(32, num_samples)
    sample.draw(
      job.run, asked, num_samples, folder / "samples-0.9", batch=batch
    )
    drawn = sample.load(folder / "samples-0.9")
    found[name] = Line(
      parameters=trees.count(job.state.params),
      seconds=seconds[name],
      steps=steps[-1],
      nats=_nats(job),
      steps_in_time=early,
      nats_in_time=_nats(evaluate.open_job(folder, step=early)),
      colour=demo_figures.colour_right(
        demo_figures.Pictures(drawn["image"], drawn["label"])
      ),
    )
  return found


def table(found: Mapping[str, Line]) -> list[str]:
  """Lays lines out for the terminal."""
  rows = [
    f"{'':<12} {'parameters':>10} {'s a step':>8}  {'nats a code':<20}"
    f" {'at equal time':<20} colour right"
  ]
  for name, line in found.items():
    whole = f"{line.nats:.3f} ({line.steps} steps)"
    early = f"{line.nats_in_time:.3f} ({line.steps_in_time} steps)"
    rows.append(
      f"{name:<12} {line.parameters:>10,} {line.seconds:>8.3f}  {whole:<20}"
      f" {early:<20} {line.colour:.2f}"
    )
  return rows


def _nats(job: evaluate.Job) -> float:
  values = evaluate.evaluate(job, "likelihood")["values"]
  return values["bits_per_element"] * math.log(2)


if __name__ == "__main__":
  sys.exit(main())
