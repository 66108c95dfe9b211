"""The flags of launch.sample for models that denoise in steps and inpaint.

    --steps=50 --temperature=1 --end_temperature=0.7 --proportion=0.5
    --inpaint=IMAGE --mask=MASK.png --results=4
    --inpaint=IMAGE --mask=0,32,64,32 --composite
    --inpaint=IMAGE --size=128x128
    --inpaint=IMAGE --size=64x128 --at=0,0

A mask is white where the picture is to be made anew, in the picture's own
pixels, and transparent is black; a rectangle is TOP,LEFT,HEIGHT,WIDTH of the
same, once a photograph is upright. The picture is made as large as the model's
and cut to its middle. A larger size puts it in the middle, or its upper left
corner at TOP,LEFT of that size, and makes what lies around it.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data import folder
from launch import animation, errors
from sundae import masks

NAMES = (
  "steps",
  "min_steps",
  "agreed",
  "end_temperature",
  "proportion",
  "end_proportion",
  "confident",
  "confidence_noise",
  "argmax",
  "inpaint",
  "animate",
)
_WITH_INPAINT = ("mask", "at", "results", "composite")


def add(parser: argparse.ArgumentParser) -> None:
  """Adds the flags to the parser of launch.sample."""
  flag, on_off = parser.add_argument, argparse.BooleanOptionalAction
  flag("--steps", type=int, help="of denoising, at most")
  flag("--min_steps", type=int, help="before a sample may stop by itself")
  stops = "where all codes are drawn as they are; else where none changed"
  flag("--agreed", action=on_off, help=stops)
  flag("--end_temperature", type=float, help="of the last step")
  flag("--proportion", type=float, help="that is accepted of drawn codes")
  flag("--end_proportion", type=float, help="of the last step")
  flag("--confident", action=on_off, help="accept the likeliest that change")
  flag("--confidence_noise", type=float, help="on their order; 0: none")
  flag("--argmax", action=on_off, help="one more, greedy step")
  flag("--inpaint", type=Path, metavar="IMAGE", help="make a part of it anew")
  flag("--mask", help="that part: a picture, or TOP,LEFT,HEIGHT,WIDTH")
  flag(
    "--at",
    type=_place,
    metavar="TOP,LEFT",
    help="pixels of --size where --inpaint's corner lies; default: centred",
  )
  flag(
    "--results",
    type=int,
    help="of --inpaint; default 4; up to --batch of them cost the same",
  )
  flag(
    "--composite",
    action="store_true",
    default=None,
    help="put the known pixels back, exactly",
  )
  flag(
    "--animate",
    choices=animation.KINDS,
    help="show how samples come about",
  )


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
  """Refuses flags without --inpaint or against it; sets its samples."""
  if args.inpaint is None:
    for name in _WITH_INPAINT:
      if getattr(args, name) is not None:
        parser.error(f"--{name} belongs to --inpaint=IMAGE")
    return
  if args.mask is None and args.size is None:
    parser.error("--inpaint=IMAGE needs --mask, or a larger --size")
  if args.at is not None and args.size is None:
    parser.error("--at=TOP,LEFT belongs to a larger --size: give one")
  if args.num_samples is not None:
    parser.error("--inpaint=IMAGE takes --results, not --num_samples")
  results = 4 if args.results is None else args.results
  if results < 1:
    parser.error(f"--results {results} must be at least 1")
  args.num_samples = results


def fields(
  args: argparse.Namespace, image: np.ndarray | None
) -> dict[str, Any]:
  """Returns the fields of a request that the flags set.

  Args:
    args: parsed.
    image: that of --inpaint, uint8 [h, w, 3].

  Raises:
    CommandError: a mask that cannot be read or does not fit the image.
  """
  asked = {
    name: getattr(args, name)
    for name in NAMES
    if name != "inpaint" and getattr(args, name) is not None
  }
  if args.inpaint is None or image is None:
    return asked
  known = np.ones(image.shape[:2], bool)
  if args.mask is not None:
    known = read_mask(args.mask, image.shape[:2])
  asked |= {"known": known, "composite": bool(args.composite)}
  return {**asked, "at": args.at}


def read_mask(text: str, size: tuple[int, int]) -> np.ndarray:
  """Returns what is known of an image: bool [h, w].

  Args:
    text: a path, or TOP,LEFT,HEIGHT,WIDTH.
    size: h and w of the image.

  Raises:
    CommandError: neither, or it does not fit the image.
  """
  parts = text.split(",")
  if len(parts) == 4 and all(x.strip().lstrip("-").isdigit() for x in parts):
    try:
      return masks.rectangle(size, *(int(x) for x in parts))
    except ValueError as error:
      raise errors.CommandError(f"--mask: {error}") from error
  try:
    picture = folder.read_picture(text)
  except (OSError, ValueError) as error:
    reason = " ".join(str(error).split())
    raise errors.CommandError(
      f"--mask={text} is no readable picture ({reason}), and no "
      "TOP,LEFT,HEIGHT,WIDTH: give one of them"
    ) from error
  mask = np.asarray(Image.fromarray(picture).convert("L"))
  if mask.shape != tuple(size):
    raise errors.CommandError(
      f"--mask={text} has {mask.shape[0]}x{mask.shape[1]} pixels and the image "
      f"{size[0]}x{size[1]}: give a mask of the image's size"
    )
  return mask < 128


def _place(text: str) -> tuple[int, int]:
  top, _, left = text.partition(",")
  try:
    return int(top), int(left)
  except ValueError:
    raise argparse.ArgumentTypeError(
      f"{text!r} must be TOP,LEFT in pixels, such as 0,64"
    ) from None
