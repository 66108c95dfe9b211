"""How fast features are extracted: images a second.

    python -m benchmarks.inception
    python -m benchmarks.inception --batch=256 --images=2048

runs the network with random weights on noise of 256 x 256, resize included, on
every device of the machine, and prints one JSON line: images a second, also as
operations a second, and, where PyTorch and torchvision are installed, theirs on
the same machine, in turn.
"""

import argparse
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable

import jax
import numpy as np

from evaluation import features, image_sets, inception_weights, preprocess

# Multiplications and additions of one image, counted from the shapes.
_FLOPS = 11.4e9


def main(argv: list[str] | None = None) -> int:
  """Runs the benchmark; returns the exit status."""
  parser = argparse.ArgumentParser(prog="benchmarks.inception")
  parser.add_argument("--batch", type=int, default=16, help="at a time")
  parser.add_argument("--images", type=int, default=64, help="a measurement")
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument("--side", type=int, default=256, help="of the images")
  parser.add_argument("--preprocess", default=preprocess.DEFAULT)
  args = parser.parse_args(argv)
  images = np.random.RandomState(0).randint(
    0, 256, (args.images, args.side, args.side, 3), np.uint8
  )
  contestants = {"ours": _ours(images, args.batch, args.preprocess)}
  theirs = _torch(images, args.batch)
  if theirs is not None:
    contestants["torch"] = theirs
  for run in contestants.values():
    run()  # compiles, and warms the caches
  times: dict[str, list[float]] = {name: [] for name in contestants}
  for _ in range(args.repeats):
    for name, run in contestants.items():
      start = time.perf_counter()
      run()
      times[name].append(time.perf_counter() - start)
  rates = {k: args.images / statistics.median(v) for k, v in times.items()}
  found = {
    "benchmark": "inception",
    "images_per_s": round(rates["ours"], 2),
    "tflops_per_s": round(rates["ours"] * _FLOPS / 1e12, 3),
    "batch": args.batch,
    "preprocess": args.preprocess,
    "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    "jax": jax.__version__,
    "load": os.getloadavg()[0],
  }
  if "torch" in rates:
    found["torch_images_per_s"] = round(rates["torch"], 2)
    found["ratio_to_torch"] = round(rates["ours"] / rates["torch"], 2)
  print(json.dumps(found))
  return 0


def _ours(images: np.ndarray, batch: int, mode: str) -> Callable[[], None]:
  """Returns one pass of `features.extract`, the moments included."""
  network = features.network(inception_weights.load("random:0"), mode)

  def run() -> None:
    features.extract(
      image_sets.from_array(images), network, batch=batch, keep=()
    )

  return run


def _torch(images: np.ndarray, batch: int) -> Callable[[], None] | None:
  """Returns torchvision's Inception, of the same cost, if it is there."""
  try:
    torch = importlib.import_module("torch")
    torchvision = importlib.import_module("torchvision")
  except ImportError:
    return None
  model = torchvision.models.inception_v3(
    weights=None, init_weights=False, transform_input=False
  ).eval()

  def run() -> None:
    with torch.inference_mode():
      for start in range(0, len(images), batch):
        part = torch.from_numpy(images[start : start + batch])
        x = part.permute(0, 3, 1, 2).float() / 127.5 - 1
        x = torch.nn.functional.interpolate(x, (299, 299), mode="bilinear")
        model(x)

  return run


if __name__ == "__main__":
  sys.exit(main())
