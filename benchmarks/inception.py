"""How fast features are extracted: images a second.

    python -m benchmarks.inception
    python -m benchmarks.inception --batch=256 --images=2048

runs the network with random weights on noise of 256 x 256, resize included, on
every device of the machine, and prints one JSON line: images a second, also as
operations a second, and, where PyTorch is installed (on PYTHONPATH is enough),
those of the same network there, in turn, on the processor. Ends with 1 where
the two networks disagree.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable

import jax
import numpy as np

from benchmarks import inception_torch
from evaluation import features, image_sets, inception_weights, preprocess

_TOLERANCE = 1e-5  # relative to the largest feature

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
  weights = inception_weights.load("random:0")
  contestants = {"ours": _ours(weights, images, args.batch, args.preprocess)}
  theirs = inception_torch.make(weights.params, args.preprocess)
  if theirs is not None:
    contestants["torch"] = _theirs(theirs, images, args.batch)
  # Compiles, and warms the caches.
  pools = {name: run() for name, run in contestants.items()}
  times: dict[str, list[float]] = {name: [] for name in contestants}
  cpu: dict[str, list[float]] = {name: [] for name in contestants}
  for _ in range(args.repeats):
    for name, run in contestants.items():
      start, busy = time.perf_counter(), time.process_time()
      run()
      times[name].append(time.perf_counter() - start)
      cpu[name].append(time.process_time() - busy)
  rates = {k: args.images / statistics.median(v) for k, v in times.items()}
  # What a busy machine changes less than the clock.
  busy = {k: statistics.median(v) / args.images for k, v in cpu.items()}
  found = {
    "benchmark": "inception",
    "images_per_s": round(rates["ours"], 2),
    "tflops_per_s": round(rates["ours"] * _FLOPS / 1e12, 3),
    "cpu_s_per_image": round(busy["ours"], 4),
    "batch": args.batch,
    "preprocess": args.preprocess,
    "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    "jax": jax.__version__,
    "load": os.getloadavg()[0],
  }
  if "torch" in rates:
    found["torch_images_per_s"] = round(rates["torch"], 2)
    found["torch_cpu_s_per_image"] = round(busy["torch"], 4)
    found["ratio_to_torch"] = round(rates["ours"] / rates["torch"], 2)
    largest = float(np.abs(pools["torch"]).max())
    error = float(np.abs(pools["ours"] - pools["torch"]).max()) / largest
    found["relative_difference"] = error
  print(json.dumps(found))
  return int(found.get("relative_difference", 0.0) > _TOLERANCE)


def _ours(
  weights: inception_weights.Weights, images: np.ndarray, batch: int, mode: str
) -> Callable[[], np.ndarray]:
  """Returns one pass of `features.extract`, the moments included."""
  network = features.network(weights, mode)

  def run() -> np.ndarray:
    found = features.extract(
      image_sets.from_array(images), network, batch=batch, keep=("pool",)
    )
    return found.kept["pool"]

  return run


def _theirs(
  network: Callable[[np.ndarray], np.ndarray], images: np.ndarray, batch: int
) -> Callable[[], np.ndarray]:
  """Returns one pass of the network alone."""

  def run() -> np.ndarray:
    starts = range(0, len(images), batch)
    return np.concatenate([network(images[i : i + batch]) for i in starts])

  return run


if __name__ == "__main__":
  sys.exit(main())
