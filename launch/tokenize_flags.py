"""The flags of launch.tokenize, and the config that says which images."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import ml_collections

from launch import first_stages, flags, runs, setup, trained

SPLITS = {"train": "split", "validation": "eval_split"}
# The fields of a config that say which images are encoded.
_IMAGES = ("source", "name", "dir", "split", "eval_split", "size", "zoom")


def parse(
  argv: Sequence[str], doc: str | None
) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
  """Parses the command line; returns the options and the overrides."""
  parser = flags.Parser(doc, "launch.tokenize")
  add = parser.add_argument
  trained.add_options(parser, "run directory of a first stage")
  add("--palette", type=int, help="so many colours, by k-means (f = 1)")
  add("--pixels", action="store_true", help="shades of grey as codes (f = 1)")
  add(
    "--config",
    metavar="FILE.py[:ARG]",
    help="whose data section to take; --config.data.FIELD=VALUE overrides "
    "its fields, or those of the first stage's own config",
  )
  add("--out", type=Path, required=True, help="folder to write")
  add(
    "--flips",
    action="store_true",
    help="encode mirror images too, beside the image and so in its split: of "
    "OUT/validation as of OUT/train",
  )
  add(
    "--used_only", action="store_true", help="drop codes of no use, see above"
  )
  add(
    "--dtype",
    choices=first_stages.DTYPES,
    help="precision of the encoder; default float32, in full also on GPUs and "
    "TPUs. bfloat16 is several times as fast there, and a latent near the "
    "border of two codes may get the other one: where codes of one precision "
    "are asked for, those of the other are refused",
  )
  add("--splits", default=",".join(SPLITS), help="default: both")
  add("--shard", type=int, default=4096, help="images a file; default 4096")
  add("--batch", type=int, default=16, help="images at a time, a device")
  add("--platform", default="auto", help=f"one of {', '.join(setup.PLATFORMS)}")
  rest, overrides = flags.split_overrides(argv)
  args = parser.parse_arguments(rest)
  ways = (args.workdir, args.weights, args.palette, args.pixels)
  if sum(map(bool, ways)) != 1:
    parser.error("give one of --workdir, --weights, --palette and --pixels")
  if args.used_only and not (args.workdir or args.weights):
    parser.error("--used_only is of first stages: --workdir or --weights")
  if args.dtype and not (args.workdir or args.weights):
    parser.error("--dtype is of first stages: --workdir or --weights")
  for name in ("shard", "batch", "palette"):
    value = getattr(args, name)
    if value is not None and value < 1:
      parser.error(f"--{name} {value} must be at least 1")
  args.splits = args.splits.split(",")
  for name in args.splits:
    if name not in SPLITS:
      parser.error(f"no split {name!r}{flags.did_you_mean(name, [*SPLITS])}")
  return args, overrides


def config(
  args: argparse.Namespace, overrides: Sequence[tuple[str, str]]
) -> ml_collections.ConfigDict:
  """Returns the config whose `data` section says which images.

  Raises:
    UsageError: there is none, or an override that nothing would read.
  """
  if args.config:
    made = flags.load(args.config, overrides)
  else:
    made = _own(args)
    for field, text in overrides:
      flags.override(made, field, text)
  read = list(_read(args))
  for field, _ in overrides:
    if field not in read:
      raise flags.UsageError(
        f"nothing reads --config.{field} here"
        f"{' (mirror images: --flips)' * (field == 'data.flip')}: of a config "
        f"launch.tokenize takes {', '.join(read)}"
      )
  return made


def _own(args) -> ml_collections.ConfigDict:
  """Returns the config that a first stage was trained with."""
  if args.workdir:
    return runs.load_config(args.workdir)
  if not args.weights:
    raise flags.UsageError("--palette and --pixels need --config=FILE.py")
  made, _, _ = trained.read(args.weights)
  if "source" not in made.data:
    raise flags.UsageError(
      f"{args.weights} names no data: add --config=FILE.py"
    )
  return made


def _read(args) -> Iterator[str]:
  """Yields the fields that are read: those compared with the stage's, too."""
  yield from (f"data.{name}" for name in _IMAGES)
  if args.palette:
    yield from ("data.num_measured", "seed")
  stage: ml_collections.ConfigDict | None = ml_collections.ConfigDict(
    {"task": "palette" if args.palette else "pixels"}
  )
  if args.workdir or args.weights:
    stage = first_stages.find_config(str(args.workdir or args.weights))
  if stage is not None:  # else `load` says that there is none
    yield from (f"data.{name}" for name in first_stages.reading(stage))
