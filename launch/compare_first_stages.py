"""Compares first stages: VQVAE and VQGAN, the quantizers, the weight of beta.

    python -m launch.compare_first_stages --workdir=runs/compare-first-stages
    python -m launch.compare_first_stages --variants=nearest,legacy --seeds=3
    python -m launch.compare_first_stages --config=configs/vqgan_folder.py:64 \
        --config.data.dir=CIFAR --config.data.size='(32, 32)' \
        --config.model.resolution=32 --config.train.batch_size=64 \
        --num_steps=5000 --num_images=10000 --inception=

Trains variants of one config for as many steps, scores reconstructions of its
evaluation split on the way, and writes the last scores to tables.txt, all of
them to curves.png, and some pictures to reconstructions.png. `vqgan` is the
config as it is, `alternating` the same with the authors' order, whose
discriminator sees reconstructions by the autoencoder after its update, `vqvae`
is without discriminator and LPIPS; the others are `vqvae` with another
quantizer, `legacy` the nearest code with the weights that beta had in published
models. --num_steps shortens the config: its discriminator begins, and its rates
warm up and decay, at the same share of the run. Unless --inception names
weights (a file, or nothing: the public ones) features are random, and no FID.
Started again, it goes on where it was.
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from launch import (
  curves,
  errors,
  flags,
  plans,
  runs,
  setup,
  train,
  variant_pictures,
  variants,
)

_ADVERSARIAL = ("vqgan", "alternating")
GROUPS: Mapping[str, Sequence[str]] = {
  "VQVAE and VQGAN": ("vqvae", *_ADVERSARIAL),
  "Quantizers": ("nearest", "average", "unit", "gumbel", "finite"),
  "Beta: correct (nearest) and legacy": ("nearest", "legacy"),
}
# The first one needs the most: what it lacks is missed at once.
VARIANTS = (*_ADVERSARIAL, "vqvae", *GROUPS["Quantizers"], "legacy")

_DEFAULT = "configs/vqgan_scenes.py"
_STEPS = 300  # of the default config
_SCORES = 5  # of a run
_METRICS = "fid,psnr,ssim,edges"
# Counted in steps, and shortened with a run.
_COUNTS = (
  "adversary.start",
  "adversary.warmup",
  "adversary.warmup_steps",
  "optimizer.warmup_steps",
  "optimizer.decay_steps",
)
# Fields that are set here, and by what.
_SET = {
  "seed": "--seeds",
  "train.num_steps": "--num_steps",
  "eval.scores.num": "--num_images",
  "eval.scores.every": "--every",
  "eval.scores.inception": "--inception",
  "eval.scores.metrics": "nothing",
  "eval.every": "nothing",
  "sample.every": "nothing",
  "train.checkpoint_every": "--every",
}
# By number of codes (Mentzer et al. 2023, table 1).
_LEVELS = {
  2**8: (8, 6, 5),
  2**10: (8, 5, 5, 5),
  2**12: (7, 5, 5, 5, 5),
  2**14: (8, 8, 8, 6, 5),
  2**16: (8, 8, 8, 5, 5, 5),
}
_UNIT_WIDTH = 8  # directions want few dimensions (Yu et al. 2022, sec. 3.2)
_BETA = 0.25  # van den Oord et al. 2017; of moving averages it may be another

# Scores in the order of the table: heads and digits after the point.
_COLUMNS = {
  "psnr": ("PSNR, dB", 2),
  "ssim": ("SSIM", 3),
  "accuracy": ("labels right", 3),
  "nats_per_label": ("nats a label", 4),
  "edges": ("edges, of real", 2),
  "codes_used": ("codes used", 0),
  "codes_perplexity": ("perplexity", 1),
}
_LEFT_OUT = ("codes_unused", "quantization_error")


@dataclasses.dataclass(frozen=True)
class Trained:
  """A finished run.

  Attributes:
    folder: of the run.
    scores: curves by metric, without `eval/`.
  """

  folder: Path
  scores: Mapping[str, curves.Curve]


@errors.command
def main(argv: list[str]) -> int:
  """Runs the command."""
  args, config = _parse(argv)
  setup.start(config.platform)
  made = {name: variant(config, name) for name in VARIANTS}
  for name in args.variants:
    plans.make(made[name])
  found: dict[str, list[Trained]] = {name: [] for name in args.variants}
  done: dict[Path, Trained] = {}
  for seed in range(args.seeds):
    for name in args.variants:
      folder = args.workdir / f"{twin(made, name)}-{seed}"
      if folder not in done:
        changed = variants.changed(made[name], {"seed": seed})
        _check_scores(changed, folder)
        if not variants.trained(changed, folder):
          return train.EXIT_RESUMABLE
        done[folder] = read(folder)
      found[name].append(done[folder])
  text = "\n".join([*tables(found), "", *notes(config, args, made)])
  (args.workdir / "tables.txt").write_text(text + "\n")
  print(text)
  for path in _draw(args.workdir, found):
    print(path)
  return 0


def variant(
  config: ml_collections.ConfigDict, name: str
) -> ml_collections.ConfigDict:
  """Returns the config of one of VARIANTS."""
  fields: dict[str, Any] = {}
  if name == "alternating":
    fields["adversary.same_forward"] = False
  if name not in _ADVERSARIAL:
    fields |= {"adversary.weight": 0.0, "loss.perceptual": 0.0}
  if name not in (*_ADVERSARIAL, "vqvae"):
    options = config.quantizer
    fields["quantizer.name"] = "nearest" if name == "legacy" else name
    if name in ("nearest", "legacy"):
      fields["quantizer.legacy"] = name == "legacy"
    if name in ("nearest", "legacy", "unit") and options.name == "average":
      fields["quantizer.beta"] = _BETA
    if name == "unit":
      fields["quantizer.width"] = min(options.width, _UNIT_WIDTH)
    if name == "gumbel" and options.temperature.steps > config.train.num_steps:
      fields["quantizer.temperature.steps"] = 0  # anneal within the run
    if name == "finite":
      fields |= {"quantizer.num_codes": 0, "quantizer.width": 0}
      fields["quantizer.levels"] = levels(options)
  return variants.changed(config, fields)


def levels(options: ml_collections.ConfigDict) -> tuple[int, ...]:
  """Returns levels of a finite quantizer for about as many codes.

  Args:
    options: of a quantizer; its own levels are taken where they fit.
  """
  own, wanted = tuple(options.levels), max(1, options.num_codes)
  if 0.5 <= math.prod(own) / wanted <= 2:
    return own
  distance = lambda num: abs(math.log(num / wanted))
  return _LEVELS[min(_LEVELS, key=distance)]


def shortened(
  config: ml_collections.ConfigDict, num_steps: int
) -> ml_collections.ConfigDict:
  """Returns a config of so many steps, with its schedules in proportion."""
  known = dict(flags.flatten(config))
  share = num_steps / config.train.num_steps
  counts = {name: round(share * known[name]) for name in _COUNTS}
  return variants.changed(config, {**counts, "train.num_steps": num_steps})


def twin(made: Mapping[str, ml_collections.ConfigDict], name: str) -> str:
  """Returns the first variant with the same config: they are one run."""
  mine = made[name].to_dict()
  return next(other for other, x in made.items() if x.to_dict() == mine)


def read(folder: Path) -> Trained:
  """Reads the scores of a finished run."""
  prefix = "eval/"
  found = curves.read(folder)
  scores = {
    name.removeprefix(prefix): curve
    for name, curve in found.items()
    if name.startswith(prefix)
  }
  return Trained(folder, scores)


def columns(found: Mapping[str, Sequence[Trained]]) -> list[str]:
  """Returns the scores to show, in their order."""
  names = {x for runs in found.values() for run in runs for x in run.scores}
  order = [*_COLUMNS, *sorted(names - {*_COLUMNS, *_LEFT_OUT})]
  return [name for name in order if name in names]


def tables(found: Mapping[str, Sequence[Trained]]) -> list[str]:
  """Lays the last scores out, a table for each group: means, and ranges."""
  names = columns(found)
  heads = [_COLUMNS.get(name, (name, 3))[0] for name in names]
  groups: dict[str, list[list[str]]] = {}
  shown: set[str] = set()
  for title, members in GROUPS.items():
    here = [name for name in members if name in found]
    if not {*here} <= shown:
      groups[title] = [[name, *_cells(found[name], names)] for name in here]
    shown |= {*here}
  table = [["", *heads, "ms a step"], *(x for y in groups.values() for x in y)]
  widths = [max(map(len, column)) for column in zip(*table)]
  line = lambda row: "  ".join(
    f"{cell:>{width}}" if i else f"{cell:<{width}}"
    for i, (cell, width) in enumerate(zip(row, widths))
  )
  lines = []
  for title, rows in groups.items():
    lines += ["", title, line(table[0]), *map(line, rows)]
  return lines[1:]


def notes(
  config: ml_collections.ConfigDict,
  args: argparse.Namespace,
  made: Mapping[str, ml_collections.ConfigDict],
) -> list[str]:
  """Says what decides the numbers."""
  data, critic = config.data, config.adversary
  said = [
    f"{data.name or data.dir}, {config.train.num_steps} steps of "
    f"{config.train.batch_size} images, seeds: {args.seeds}, scored on "
    f"{config.eval.scores.num} images of {data.eval_split} at most"
  ]
  if "finite" in args.variants:
    options = made["finite"].quantizer
    said.append(
      f"finite has {math.prod(options.levels)} codes, of levels "
      f"{tuple(options.levels)}, the others {config.quantizer.num_codes}"
    )
  looked = [x for x in args.variants if x not in ("gumbel", "finite")]
  if betas := [f"{x} {made[x].quantizer.beta:g}" for x in looked]:
    said.append(f"quantizer.beta: {', '.join(betas)}")
  if critics := _adversarial(args):
    said.append(
      f"{', '.join(critics)}: the discriminator learns from step "
      f"{critic.start} on, the autoencoder from it after {critic.warmup} more"
    )
  for name in args.variants:
    other = twin(made, name)
    if other != name:
      said.append(f"{name} is the same run as {other}")
  if args.inception.startswith("random:"):
    said.append(
      f"Inception's weights are {args.inception}: distances of its features "
      "are no FID"
    )
  return said


def _adversarial(args) -> list[str]:
  """Returns the asked-for variants that have a discriminator."""
  return [name for name in _ADVERSARIAL if name in args.variants]


def _cells(trained: Sequence[Trained], names: Sequence[str]) -> list[str]:
  """Writes the last scores of a variant out, "" where it has none."""
  cells = []
  for name in names:
    last = [x.scores[name].values[-1] for x in trained if name in x.scores]
    digits = _COLUMNS.get(name, ("", 3))[1]
    cells.append(variants.spread(last, digits) if last else "")
  steps = [1000 * variants.step_seconds(x.folder) for x in trained]
  return [*cells, variants.spread(steps, 0)]


def _draw(workdir, found) -> list[Path]:
  """Draws curves, and reconstructions of the first seed; returns the files."""
  first = {runs[0].folder: name for name, runs in [*found.items()][::-1]}
  unlike = {name: found[name] for name in found if name in first.values()}
  names = columns(found)
  heads = {x: _COLUMNS.get(x, (x, 0))[0] for x in names}
  paths = [workdir / "curves.png", workdir / "reconstructions.png"]
  variant_pictures.draw_curves(
    paths[0],
    {name: [x.scores for x in runs] for name, runs in unlike.items()},
    heads,
  )
  variant_pictures.draw_reconstructions(
    paths[1], {name: runs[0].folder for name, runs in unlike.items()}
  )
  return paths


def _parse(
  argv: Sequence[str],
) -> tuple[argparse.Namespace, ml_collections.ConfigDict]:
  """Returns the options, and the config that variants differ from."""
  parser = flags.Parser(__doc__, "launch.compare_first_stages")
  add = parser.add_argument
  place = Path("runs/compare-first-stages")
  add("--workdir", type=Path, default=place, help="of all runs")
  add("--config", metavar="FILE.py[:ARG]", help=f"default: {_DEFAULT}")
  add("--variants", default=",".join(VARIANTS), help="default: all")
  add("--seeds", type=int, default=1, help="runs a variant; default 1")
  add(
    "--num_steps",
    type=int,
    help=f"of training; default {_STEPS}, with --config those of the config",
  )
  add("--every", type=int, help="steps between scores; default a fifth")
  add("--num_images", type=int, default=64, help="to score; default 64")
  add("--inception", default="random:0", help="weights; default random:0")
  add("--tiny", action="store_true", help="everything small: to try it")
  rest, overrides = flags.split_overrides(argv)
  args = parser.parse_arguments(rest)
  args.variants = variants.chosen(parser, args.variants, VARIANTS)
  for field, _ in overrides:
    if field in _SET:
      parser.error(f"--config.{field} is not read here: {_SET[field]} sets it")
  if args.tiny and args.config:
    parser.error("--tiny is of the default config: give FILE.py:tiny")
  least = {"seeds": 1, "num_steps": 1, "every": 1, "num_images": 2}
  for name, bound in least.items():
    value = getattr(args, name)
    if value is not None and value < bound:
      parser.error(f"--{name} {value} must be at least {bound}")
  form = ":tiny" if args.tiny else ""
  config = flags.load(args.config or f"{_DEFAULT}{form}", overrides)
  return args, _prepared(args, config)


def _prepared(args, config) -> ml_collections.ConfigDict:
  """Returns the config of so many steps that scores itself on the way."""
  if config.task != "vqgan":
    raise errors.CommandError(
      f"{args.config} is of task {config.task}: first stages are of vqgan"
    )
  if args.num_steps or not args.config:
    default = min(_STEPS, config.train.num_steps)
    config = shortened(config, args.num_steps or default)
  steps, options = config.train.num_steps, config.adversary
  if critics := _adversarial(args):
    if not options.weight:
      raise errors.CommandError(
        f"adversary.weight is 0, so that {critics[0]} would be another vqvae: "
        "choose --variants without it, or a config with a discriminator"
      )
    if options.start + options.warmup >= steps:
      raise errors.CommandError(
        f"adversary.start {options.start} and adversary.warmup "
        f"{options.warmup} leave {critics[0]} none of {steps} steps"
      )
  every = args.every or max(1, steps // _SCORES)
  return variants.changed(
    config,
    {
      "eval.scores.every": every,
      "eval.scores.num": args.num_images,
      "eval.scores.batch": min(config.eval.scores.batch, args.num_images),
      "eval.scores.inception": args.inception,
      "eval.scores.metrics": _METRICS,
      "train.checkpoint_every": every,
      "train.log_every": min(config.train.log_every, every),
    },
  )


def _check_scores(config, folder) -> None:
  """Stops where a run that is there was scored otherwise."""
  if not (folder / "config.json").is_file():
    return
  before = runs.load_config(folder).eval.scores
  for name, value in config.eval.scores.items():
    if name != "batch" and before.get(name) != value:
      raise errors.CommandError(
        f"{folder} was scored with eval.scores.{name} {before.get(name)!r}, "
        f"not {value!r}: choose another --workdir"
      )


if __name__ == "__main__":
  sys.exit(main())
