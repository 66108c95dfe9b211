"""Writes the statistics of a set of images, to compare samples with.

    python -m launch.statistics --images=tfds:lsun/bedroom/train --size=256 \
      --out=bedrooms.npz
    python -m launch.statistics --images=FOLDER --out=stats.npz

--images: a folder of images, an .npz or .npy of images, samples of
launch.sample, tfds:NAME/SPLIT. The file holds mu, sigma, mu_s and sigma_s, as
ADM's evaluator and pytorch-fid read them, features of the first 10,000 images
for precision and recall, and everything that decides them.
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
  scores.add_options(parser)
  args = parser.parse_arguments(argv)
  scores.check_options(parser, args)
  if args.out.suffix != ".npz":
    parser.error(f"--out={args.out} must end in .npz")
  setup.start(args.platform)
  images = image_sources.open_images(
    args.images,
    size=args.size,
    transform=args.transform,
    data_dir=args.data_dir,
  )
  if args.num_images:
    images = images.take(args.num_images)
  net = scores.open_network(args.inception, args.preprocess)
  found = scores.statistics_of(
    images,
    net,
    args.batch,
    scores.crop_name(args.size),
    transform=args.transform,
  )
  if jax.process_index() == 0:
    reference.save(args.out, found)
    for note in images.notes:
      print(f"note: {note}")
    h, w = found.metadata["size"]
    print(f"{found.metadata['count']:,} images of {h} x {w}, {net.preprocess}")
    print(args.out)
  return 0


if __name__ == "__main__":
  sys.exit(main())
