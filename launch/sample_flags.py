"""The flags of launch.sample, and what they ask of a run.

Which of them an adapter can do it says in `SAMPLING`; the others are refused
here, in one line.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data import decoding, folder
from launch import (
  denoising_flags,
  errors,
  flags,
  request,
  runs,
  setup,
  trained,
)

_NUM_SAMPLES = 64
# Pictures that a sample goes on from; one at a time.
_GIVEN = ("upsample", "colorize", "complete", "inpaint")
# Of DCTransformer they are one number, or one each of its three fields.
_BY_FIELD = ("temperature", "top_k", "top_p")
_EACH = "; default of the config; DCT: or three, channel,position,value"
# Flags that not every task has.
OPTIONAL = (
  "labels",
  "top_k",
  "top_p",
  "guidance",
  "size",
  *_GIVEN[:3],
  "condition",
  "score",
  "acceptance",
  *denoising_flags.NAMES,
)


def parse(argv: Sequence[str], doc: str | None) -> argparse.Namespace:
  """Parses the command line of launch.sample."""
  parser = flags.Parser(doc, "launch.sample")
  add = parser.add_argument
  trained.add_options(parser, "directory of a run")
  add("--out", type=Path, required=True, help="folder to write")
  add("--num_samples", type=_positive, help=f"default {_NUM_SAMPLES}")
  add("--seed", type=int, default=0, help="default 0")
  add("--labels", type=_numbers, help="classes, taken in turn: 0,5,7")
  add("--temperature", type=_each(float), help="0 is greedy" + _EACH)
  add("--top_k", type=_each(int), help="0 keeps all" + _EACH)
  add("--top_p", type=_each(float), help="1 keeps all" + _EACH)
  add("--guidance", type=float, help="weight of the label, 1 = plain")
  add("--size", type=_size, help="HEIGHTxWIDTH; default: as in the data")
  add("--upsample", type=Path, metavar="IMAGE", help="fill in a small image")
  add("--colorize", type=Path, metavar="IMAGE", help="colour a grey image")
  add("--complete", type=Path, metavar="IMAGE", help="go on from a part")
  add("--fraction", type=float, help="of the image that --complete keeps")
  add(
    "--condition",
    type=Path,
    metavar="FILE",
    help="a map, a small picture, or JSON of boxes or key points; default: "
    "those of the dataset",
  )
  add(
    "--score",
    metavar="MODULE:FUNCTION",
    help="a JAX function of images uint8 [b, h, w, 3] and labels [b] that gives"
    " [b] numbers, larger is better: of several draws keep the best",
  )
  add(
    "--acceptance",
    type=float,
    help="share of draws --score keeps, such as 0.05",
  )
  denoising_flags.add(parser)
  add(
    "--batch",
    type=_positive,
    help="samples at a time, default sample.batch of the run; the last is drawn"
    " whole, however few are asked for, so that more can follow; a smaller one"
    " saves that and changes rounding, so samples may differ",
  )
  add(
    "--no_average",
    action="store_true",
    help="use the parameters, not their moving average",
  )
  add("--step", type=flags.step, help=flags.STEP)
  add("--platform", default="auto", help=f"one of {', '.join(setup.PLATFORMS)}")
  args = parser.parse_arguments(argv)
  if (args.workdir is None) == (args.weights is None):
    parser.error("give either --workdir=RUN or --weights=NAME")
  if args.complete and args.fraction is None:
    parser.error("--complete=IMAGE needs --fraction, such as 0.3")
  if (args.score is None) != (args.acceptance is None):
    parser.error("--score=MODULE:FUNCTION and --acceptance=0.05 go together")
  if args.out.exists() and not args.out.is_dir():
    parser.error(f"--out={args.out} is a file: give a folder")
  denoising_flags.check(parser, args)
  args.num_samples = args.num_samples or _NUM_SAMPLES
  return args


def to_request(
  run: runs.Run | trained.Trained, args: argparse.Namespace
) -> request.Request:
  """Makes the request of parsed flags, on top of the run's `config.sample`.

  Raises:
    CommandError: flags that exclude each other or that the task has no use
      for, or a file that cannot be read.
  """
  accepted = run.adapter.SAMPLING
  for name in OPTIONAL:
    if getattr(args, name) is not None and name not in accepted:
      raise errors.CommandError(
        f"--{name} means nothing to task {run.config.task}: it takes "
        f"{', '.join(f'--{x}' for x in OPTIONAL if x in accepted)}"
      )
  for name in _BY_FIELD:
    if isinstance(getattr(args, name), tuple) and "fields" not in accepted:
      raise errors.CommandError(
        f"--{name} of task {run.config.task} is one number"
      )
  given = [name for name in _GIVEN if getattr(args, name)]
  if len(given) > 1:
    raise errors.CommandError(
      f"--{given[0]} and --{given[1]} exclude each other: give one"
    )
  if args.fraction is not None and given != ["complete"]:
    raise errors.CommandError("--fraction belongs to --complete=IMAGE")
  image = _read_image(getattr(args, given[0])) if given else None
  return request.from_config(
    run.config,
    temperature=args.temperature,
    top_k=args.top_k,
    top_p=args.top_p,
    guidance=args.guidance,
    labels=args.labels,
    size=args.size,
    given=given[0] if given else None,
    image=image,
    fraction=args.fraction,
    score=args.score,
    acceptance=args.acceptance,
    condition=read_condition(args.condition) if args.condition else None,
    **denoising_flags.fields(args, image),
  )


def read_condition(path: Path) -> Any:
  """Reads a condition: JSON values, or an image's array as it is stored.

  A label map keeps its labels, a depth map its 16 bits; pictures with a
  palette or transparency become RGB. Photographs are turned upright.

  Raises:
    CommandError: the file is neither.
  """
  try:
    if path.suffix.lower() == ".json":
      return json.loads(path.read_text("utf-8"))
    with Image.open(path) as picture:
      if picture.mode in ("L", "1") or picture.mode.startswith("I"):
        turned = folder.upright(path.read_bytes())
        flat = isinstance(turned, bytes)  # as it is
        return np.asarray(picture) if flat else turned[..., 0]
  except (OSError, ValueError) as error:
    reason = " ".join(str(error).split())
    raise errors.CommandError(
      f"--condition={path} cannot be read ({reason}): give a picture, a map or "
      "a .json file"
    ) from error
  return _read_image(path)


def _read_image(path: Path) -> np.ndarray:
  try:
    return folder.read_picture(path)
  except decoding.Unreadable as error:
    raise errors.CommandError(
      f"{path} is no readable image: {error}"
    ) from error


def _positive(text: str) -> int:
  number = int(text)
  if number < 1:
    raise argparse.ArgumentTypeError(f"{text} must be at least 1")
  return number


def _numbers(text: str) -> tuple[int, ...]:
  try:
    return tuple(int(part) for part in text.split(","))
  except ValueError:
    raise argparse.ArgumentTypeError(
      f"{text!r} must be numbers with commas between, such as 0,5,7"
    ) from None


def _each(kind: type) -> Callable[[str], Any]:
  """Makes the reader of one number, or of three with commas between."""

  def read(text: str) -> Any:
    try:
      numbers = tuple(kind(part) for part in text.split(","))
    except ValueError:
      numbers = ()
    if len(numbers) not in (1, 3):
      raise argparse.ArgumentTypeError(f"{text!r} must be one number, or three")
    return numbers if len(numbers) == 3 else numbers[0]

  return read


def _size(text: str) -> tuple[int, int]:
  height, _, width = text.partition("x")
  try:
    return int(height), int(width)
  except ValueError:
    raise argparse.ArgumentTypeError(
      f"{text!r} must be HEIGHTxWIDTH, such as 64x96"
    ) from None
