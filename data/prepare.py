"""Prepare a TFDS dataset: `python -m data.prepare imagenet2012`.

Downloads what can be downloaded, and writes array_record.
"""

import logging
import sys

from absl import app, flags

from data import source, tfds

_DATA_DIR = flags.DEFINE_string(
  "data_dir", "", "Where prepared datasets are; TFDS's default where empty."
)
_MANUAL_DIR = flags.DEFINE_string(
  "manual_dir", "", "Where the files are that were downloaded by hand."
)


def main(argv: list[str]) -> None:
  """Prepare the dataset that is named, and print the sizes of its splits."""
  if len(argv) != 2:
    raise app.UsageError("give one TFDS name, for example lsun/bedroom")
  logging.getLogger("data").setLevel(logging.INFO)
  try:
    tfds.prepare(argv[1], _DATA_DIR.value, _MANUAL_DIR.value)
    builder = tfds.make_builder(argv[1], _DATA_DIR.value)
  except source.DataError as error:
    sys.exit(str(error))
  counts = {name: s.num_examples for name, s in builder.info.splits.items()}
  print(f"{argv[1]} is in {builder.data_dir}: {counts}")


if __name__ == "__main__":
  app.run(main)
