"""How many sampled digits are read as their labels, by the nearest real ones.

    python -m benchmarks.digits make --source=FOLDER --out=mnist.npz
    python -m benchmarks.digits judge --data=mnist.npz DRAWN DRAWN

`make` reads MNIST's own files of one split (*images-idx3-ubyte.gz and
*labels-idx1-ubyte.gz) and writes arrays for `data.source=arrays`, splits train
and validation, the last 500 after a shuffle. `judge` reads what `launch.sample`
wrote, at 16 x 16 pixels: the share whose five nearest training digits have the
label by majority, and the distance (RMS of levels) to the nearest one, median
and fifth percentile; the held-out digits come first. (A least distance would
be larger of fewer pictures.)
"""

import argparse
import gzip
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

_HELD_OUT = 500
_SIDE = 16
_NEIGHBOURS = 5


def main(argv: Sequence[str] | None = None) -> int:
  """Run the command."""
  parser = argparse.ArgumentParser(prog="benchmarks.digits")
  commands = parser.add_subparsers(dest="command", required=True)
  making = commands.add_parser("make")
  making.add_argument("--source", type=Path, required=True)
  making.add_argument("--out", type=Path, required=True)
  judging = commands.add_parser("judge")
  judging.add_argument("--data", type=Path, required=True)
  judging.add_argument("drawn", type=Path, nargs="*", metavar="DRAWN")
  args = parser.parse_args(argv)
  if args.command == "make":
    np.savez(args.out, **make(args.source))
    return 0
  with np.load(args.data) as data:
    train = data["train_images"], data["train_labels"]
    others = {
      "held out": (data["validation_images"], data["validation_labels"])
    }
  for folder in args.drawn:
    with np.load(folder / "samples.npz") as drawn:
      others[str(folder)] = drawn["arr_0"], drawn["labels"]
  for name, (images, labels) in others.items():
    right, median, close = judge(images, labels, *train)
    print(
      f"{name}: {len(images)}, right {right:.3f}, "
      f"nearest {median:.1f}, of the closest twentieth {close:.1f}"
    )
  return 0


def make(folder: Path) -> dict[str, np.ndarray]:
  """Reads MNIST's files; returns images uint8 [n, 28, 28, 3] and labels."""
  images = _read(folder, "*images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1)
  labels = _read(folder, "*labels-idx1-ubyte.gz", 8).astype(np.int32)
  order = np.random.default_rng(0).permutation(len(labels))
  images, labels = np.repeat(images[order], 3, axis=-1), labels[order]
  return {
    "train_images": images[:-_HELD_OUT],
    "train_labels": labels[:-_HELD_OUT],
    "validation_images": images[-_HELD_OUT:],
    "validation_labels": labels[-_HELD_OUT:],
  }


def judge(
  images: np.ndarray,
  labels: np.ndarray,
  train_images: np.ndarray,
  train_labels: np.ndarray,
) -> tuple[float, float, float]:
  """Returns the share right, and distances to the nearest training digit.

  Returns:
    (right, median, fifth percentile), the distances in levels of 0..255.
  """
  x, y = _small(images), _small(train_images)
  squares = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
  nearest = np.argsort(squares, axis=1)[:, :_NEIGHBOURS]
  read = [np.bincount(train_labels[row]).argmax() for row in nearest]
  distances = np.sqrt(np.maximum(squares.min(1), 0) / x.shape[1])
  right = np.mean(np.array(read) == labels)
  return float(right), *map(float, np.percentile(distances, (50, 5)))


def _read(folder, pattern, header):
  (path,) = folder.glob(pattern)
  return np.frombuffer(gzip.decompress(path.read_bytes())[header:], np.uint8)


def _small(images):
  """Return grey pictures float32 [n, side * side]."""
  shrink = lambda x: Image.fromarray(x).resize((_SIDE, _SIDE)).convert("L")
  return np.stack([np.float32(shrink(x)).ravel() for x in images])


if __name__ == "__main__":
  sys.exit(main())
