"""Exports what a run samples with: two files that launch.sample reads.

python -m launch.export --workdir=runs/demo --out=exported/mine
python -m launch.sample --weights=exported/mine --out=DIR

The first line writes exported/mine.json and exported/mine.safetensors.
"""

import sys
from pathlib import Path

from launch import errors, flags, runs, setup, trained


@errors.command
def main(argv: list[str]) -> int:
  """Runs the command."""
  parser = flags.Parser(__doc__, "launch.export")
  parser.add_argument(
    "--workdir", type=Path, required=True, help="directory of the run"
  )
  parser.add_argument(
    "--out", type=Path, required=True, help="path of the files, no ending"
  )
  args = parser.parse_arguments(argv)
  setup.start("cpu")  # before anything asks JAX for its devices
  run = runs.open_run(args.workdir)
  for path in trained.export(run, args.out):
    print(path)
  return 0


if __name__ == "__main__":
  sys.exit(main())
