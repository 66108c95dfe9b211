"""Prepares a TFDS dataset: downloads what can be, and writes array_record.

    python -m launch.prepare imagenet2012 --manual_dir=DOWNLOADS
    python -m launch.prepare lsun/bedroom [--manual_dir=UNPACKED]

Training prepares the embedded scenes by itself, and nothing else.
"""

import importlib
import sys

from launch import errors, flags, setup


@errors.command
def main(argv: list[str]) -> int:
  """Runs the command."""
  parser = flags.Parser(__doc__, "launch.prepare")
  add = parser.add_argument
  add("name", help="of the dataset in TFDS, for example lsun/bedroom")
  add("--data_dir", default="", help="of prepared datasets; default: TFDS's")
  add("--manual_dir", default="", help="of files downloaded by hand")
  args = parser.parse_arguments(argv)
  from data import tfds  # TensorFlow takes seconds

  setup.log_to_terminal()
  _check_packages(args.name)
  tfds.prepare(args.name, args.data_dir, args.manual_dir)
  builder = tfds.make_builder(args.name, args.data_dir)
  counts = {name: s.num_examples for name, s in builder.info.splits.items()}
  print(f"{args.name} is in {builder.data_dir}: {counts}")
  return 0


def _check_packages(name: str) -> None:
  """Stops before gigabytes are downloaded that could not be read."""
  if name.partition("/")[0] != "lsun":
    return
  try:
    importlib.import_module("lmdb")
  except ImportError as error:
    raise errors.CommandError(
      f"{name} is read with the package lmdb ({error})",
      "pip install -e '.[lsun]'",
    ) from error


if __name__ == "__main__":
  sys.exit(main())
