"""Writes the statistics of a set of images, to compare samples with.

    python -m launch.statistics --images=tfds:lsun/bedroom/train --size=256 \
      --out=bedrooms.npz
    python -m launch.statistics --images=FOLDER --out=stats.npz

--images: a folder of images, an .npz or .npy of images, samples of
launch.sample, tfds:NAME/SPLIT. The file holds mu and sigma, as pytorch-fid
reads them, mu_s and sigma_s, features of 10,000 images for precision and
recall, evenly spaced over all of them, and everything that decides them. ADM's
evaluator reads it too where it holds images for its precision and recall:
--keep_images=10000.
"""

import sys
from pathlib import Path

import jax

from evaluation import reference
from launch import errors, flags, image_sources, scores, setup


@errors.command
def main(argv: list[str]) -> int:
  """Runs the command."""
  parser = flags.Parser(__doc__, "launch.statistics")
  parser.add_argument("--images", required=True, help="see above")
  parser.add_argument("--out", type=Path, required=True, help="an .npz")
  parser.add_argument("--transform", default="", help="lowres8 or grey")
  parser.add_argument(
    "--num_images", type=int, default=0, help="only the first so many"
  )
  parser.add_argument(
    "--keep_images", type=int, default=0, help="write so many of them too"
  )
  scores.add_options(parser)
  args = parser.parse_arguments(argv)
  scores.check_options(parser, args)
  if args.out.suffix != ".npz":
    parser.error(f"--out={args.out} must end in .npz")
  if args.num_images < 0 or args.keep_images < 0:
    parser.error("--num_images and --keep_images must not be negative")
  setup.start(args.platform)
  images = image_sources.open_images(
    args.images,
    size=args.size,
    transform=args.transform,
    data_dir=args.data_dir,
  )
  if args.num_images:
    images = images.take(args.num_images)
  kept = None
  if args.keep_images:
    # Before the long pass: there may not be as many.
    kept = images.spaced(args.keep_images)
  net = scores.open_network(args.inception, args.preprocess)
  found = scores.statistics_of(
    images,
    net,
    args.batch,
    scores.crop_name(args.size),
    transform=args.transform,
  )
  if jax.process_index() == 0:
    reference.save(args.out, found, kept)
    for note in images.notes:
      print(f"note: {note}")
    h, w = found.metadata["size"]
    print(f"{found.metadata['count']:,} images of {h} x {w}, {net.preprocess}")
    print(args.out)
  return 0


if __name__ == "__main__":
  sys.exit(main())
