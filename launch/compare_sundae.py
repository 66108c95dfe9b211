"""Measures on the scenes what parts of SUNDAE are worth; writes two tables.

    python -m launch.compare_sundae --workdir=runs/compare-sundae
    python -m launch.compare_sundae --workdir=DIR --seeds=1 --num_steps=100

Trains each variant of `configs/sundae_scenes.py` with several seeds on the same
codes, for as many steps: ours, the reference (the released arithmetic; start,
optimiser and data stay ours), one and three unrolls (whose steps cost so many
passes), one unroll for as many passes as ours, and the autoregressive prior of
as many parameters. Samples are judged by the rules of the classes, for colour
and place, and by the kernel distance (evaluation.kid) of their latents to those
of held-out pictures, 4 x 4 means of each picture, scaled to unit deviation.
The last line has the samples of `ours` with the places of their codes shuffled:
what a model of codes without a picture gets. Likelihoods do not compare with
the prior's; among SUNDAE's variants the nats and the share of right codes do,
of the first unroll on held-out pictures. The second table has steps of sampling
against quality and time. Started again, it goes on where it was.
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
from einops import reduce

from evaluation import kid
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
  "1 unroll twice": {"train.unrolls": 1},
  "3 unrolls": {"train.unrolls": 3},
}
# Those that train so many times as long: two unrolls are two passes a step.
_LONGER = {"1 unroll twice": 2}
PRIOR = "autoregressive"
# Of the prior: as many parameters as SUNDAE has (1.8 million).
_PRIOR_FIELDS = {"model.layers": 8}
_STEPS = (5, 10, 20, 50)
_BATCH = 32
_HELD_OUT = 256
_PARTS = 4  # of each side of a picture, whose latents are averaged
_SHUFFLED = "ours, shuffled"


@dataclasses.dataclass(frozen=True)
class Quality:
  """What is measured of samples.

  Attributes:
    colour: share whose main object has the label's colour.
    place: total variation between where main objects lie and where they do in
      held-out pictures.
    distance: kernel distance of latents to held-out pictures.
  """

  colour: float
  place: float
  distance: float


@dataclasses.dataclass(frozen=True)
class Score:
  """What is measured of one run.

  Attributes:
    quality: of its samples.
    nats: a held-out code, of the first unroll; None of the prior.
    right: share of codes that the first unroll has right; None likewise.
    seconds: a sample, without compilation.
    train_seconds: a training step.
    parameters: how many.
    shuffled: of its samples with the places of their codes shuffled.
  """

  quality: Quality
  nats: float | None
  right: float | None
  seconds: float
  train_seconds: float
  parameters: int
  shuffled: Quality


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
      num_steps = args.num_steps * _LONGER.get(name, 1)
      fields |= {"seed": seed, "train.num_steps": num_steps}
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
        "--workdir, or the --num_steps of then"
      )
  path = folder / f"scores-{num}.json"
  if path.is_file():
    held = json.loads(path.read_text("utf-8"))
    both = {name: Quality(**held.pop(name)) for name in ("quality", "shuffled")}
    return Score(**held, **both)
  if not variants.trained(config, folder):
    return None
  run = runs.open_run(folder)
  state = _restore(run)
  drawn, seconds = draw(run, state, request.from_config(run.config), num)
  nats, right = held_out_nats(run, state)
  score = Score(
    judge(run, state, drawn),
    nats,
    right,
    seconds,
    variants.step_seconds(folder),
    sum(x.size for x in jax.tree.leaves(state.params)),
    judge(run, state, shuffled(run, state, drawn)),
  )
  rundir.write_json(path, dataclasses.asdict(score))
  return score


@dataclasses.dataclass(frozen=True)
class Drawn:
  """Samples: pictures with their labels, and codes int [n, h, w]."""

  pictures: demo_figures.Pictures
  codes: np.ndarray


def draw(
  run: runs.Run, state: Any, asked: request.Request, num: int
) -> tuple[Drawn, float]:
  """Draws samples; returns them and the seconds that one takes."""
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
  pictures = demo_figures.Pictures(join("images"), labels)
  return Drawn(pictures, join("tokens")), seconds


def shuffled(run: runs.Run, state: Any, drawn: Drawn) -> Drawn:
  """Returns samples whose codes lie anywhere."""
  rng = np.random.default_rng(0)
  flat = drawn.codes.reshape(len(drawn.codes), -1)
  codes = rng.permuted(flat, axis=1).reshape(drawn.codes.shape)
  images = _decode(run, state, codes)
  return Drawn(demo_figures.Pictures(images, drawn.pictures.labels), codes)


def judge(run: runs.Run, state: Any, drawn: Drawn) -> Quality:
  """Measures samples."""
  codes, _ = _held_out(run)
  real = _latents(run, state, codes)
  scale = lambda x: (x - real.mean(0)) / np.maximum(real.std(0), 1e-6)
  ours = _latents(run, state, drawn.codes)
  size = min(len(ours), len(real))
  return Quality(
    demo_figures.colour_right(drawn.pictures),
    demo_figures.place_variation(
      drawn.pictures.images, _decode(run, state, codes)
    ),
    kid.distance(scale(ours), scale(real), size=size).mean,
  )


def held_out_nats(run: runs.Run, state: Any) -> tuple[float | None, ...]:
  """Returns nats a code and the share right of the first unroll, or Nones."""
  codes, labels = _held_out(run)
  batch = {
    "codes": jnp.asarray(codes),
    "label": jnp.asarray(labels),
    "example_id": jnp.arange(len(codes)),
    "mask": jnp.ones(len(codes), bool),
  }
  rows = jax.jit(run.task.eval_step)(state, batch, jax.random.key(0))
  if "nats_unroll_1" not in rows:
    return None, None
  elements = float(rows["elements"].sum())
  nats = float(rows["nats_unroll_1"].sum())
  return nats / elements, float(rows["right_unroll_1"].sum()) / elements


def table(found: Mapping[str, list[Score]]) -> list[str]:
  """Lays scores out: mean and range over seeds."""
  head = ("colour right", "place", "distance", "nats", "right")
  lines = [" " * 16 + "".join(f"{x:>22}" for x in head)]
  lines[0] += "{:>13}{:>11}{:>9}".format("ms a sample", "ms a step", "params")
  for name, scores in found.items():
    column = lambda field, scores=scores: [getattr(x, field) for x in scores]
    lines.append(
      f"{name:<16}"
      + _cells([x.quality for x in scores])
      + "".join(_cell(column(field)) for field in ("nats", "right"))
      + f"{1000 * np.median(column('seconds')):>13.1f}"
      f"{1000 * np.median(column('train_seconds')):>11.1f}"
      f"{scores[0].parameters / 1e6:>8.2f}M"
    )
  if "ours" in found:
    cells = _cells([x.shuffled for x in found["ours"]])
    lines.append(f"{_SHUFFLED:<16}{cells}")
  return lines


def steps_table(folder: Path, num: int) -> list[str]:
  """Measures steps of sampling against quality and time, for one run."""
  run = runs.open_run(folder)
  state = _restore(run)
  head = ("steps", "colour right", "place", "distance", "ms a sample")
  lines = ["{:<34}{:>13}{:>8}{:>10}{:>13}".format(*head)]
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
    drawn, seconds = draw(run, state, wanted, num)
    found = judge(run, state, drawn)
    lines.append(
      f"{name:<34}{found.colour:>13.3f}{found.place:>8.3f}"
      f"{found.distance:>10.3f}{1000 * seconds:>13.1f}"
    )
  return lines


def _restore(run):
  mesh = sharding.make_mesh({"data": 1}, jax.devices()[:1])
  return run.restore(mesh).state


def _latents(run, state, codes):
  """Return mean latents of the parts of pictures, float64 [n, parts * c]."""
  params = state.frozen.get("tokenizer", {})
  whole = jax.jit(run.task.tokenizer.embed)(params, jnp.asarray(codes))
  parts = {"h": _PARTS, "w": _PARTS}
  pattern = "n (h i) (w j) c -> n (h w c)"
  return np.float64(reduce(np.asarray(whole), pattern, "mean", **parts))


def _decode(run, state, codes):
  """Return pictures of codes, a batch at a time."""
  params = state.frozen.get("tokenizer", {})
  decode = jax.jit(run.task.tokenizer.decode)
  parts = np.array_split(codes, max(len(codes) // _BATCH, 1))
  return np.concatenate([decode(params, jnp.asarray(x)) for x in parts])


def _held_out(run):
  """Return codes int32 [n, h, w] and labels int32 [n]."""
  source = datasets.open_source(run.config, run.config.data.eval_split)
  records = source.read(np.arange(min(len(source), _HELD_OUT)))
  codes = np.stack([record["codes"] for record in records]).astype(np.int32)
  return codes, np.int32([record["label"] for record in records])


def _cells(found):
  """Write the columns of several `Quality`."""
  names = [field.name for field in dataclasses.fields(Quality)]
  return "".join(_cell([getattr(x, name) for x in found]) for name in names)


def _cell(values):
  text = "" if None in values else variants.spread(values)
  return f"{text:>22}"


if __name__ == "__main__":
  sys.exit(main())
