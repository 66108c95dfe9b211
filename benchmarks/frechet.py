"""The Frechet distance at FID's size, against scipy's matrix square root.

    OMP_NUM_THREADS=1 python -m benchmarks.frechet

draws two sets of moments of 2048 features and computes their distance by
`evaluation.frechet` and by `scipy.linalg.sqrtm`, on one thread. Prints one
JSON line: medians of processor time, which a busy machine changes less than
the clock, their ratio, and how well the two agree. Ends with 1 where ours takes
more than 3 s, is less than 4 times as fast, or disagrees.
"""

import argparse
import json
import os
import statistics
import sys
import time

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_MAX_SECONDS = 3.0
_LEAST_RATIO = 4.0
_TOLERANCE = 1e-6


def main(argv: list[str] | None = None) -> int:
  """Runs the benchmark; returns the exit status."""
  parser = argparse.ArgumentParser(prog="benchmarks.frechet")
  parser.add_argument("--width", type=int, default=2048, help="features")
  parser.add_argument("--count", type=int, default=5000, help="examples")
  parser.add_argument("--repeats", type=int, default=3)
  args = parser.parse_args(argv)
  if any(os.environ.get(name) != "1" for name in _THREADS):
    # Read when NumPy is imported, so before anything else.
    environment = {**os.environ, **dict.fromkeys(_THREADS, "1")}
    command = [sys.executable, "-m", "benchmarks.frechet", *sys.argv[1:]]
    os.execve(sys.executable, command, environment)
  found = measure(args.width, args.count, args.repeats)
  print(json.dumps(found))
  slow = args.width == 2048 and (
    found["seconds"] > _MAX_SECONDS or found["ratio"] < _LEAST_RATIO
  )
  return int(slow or abs(found["relative_difference"]) > _TOLERANCE)


def measure(width: int, count: int, repeats: int) -> dict[str, float]:
  """Times both in turn, so that a busy moment hits both."""
  import numpy as np
  import scipy
  import scipy.linalg

  from evaluation import frechet, moments

  draw = np.random.RandomState(0)
  # Features like Inception's: positive, correlated, of falling variance.
  mix = draw.randn(width, width) * np.geomspace(1, 1e-3, width) / width**0.5

  def features(shift):
    return np.maximum(draw.randn(count, width) @ mix + shift, 0)

  a, b = moments.of(features(0.1)), moments.of(features(0.12))

  def by_root():
    product = scipy.linalg.sqrtm(a.covariance @ b.covariance)
    shift = a.mean - b.mean
    traces = np.trace(a.covariance) + np.trace(b.covariance)
    return shift @ shift + traces - 2 * np.trace(product.real)

  times: dict[str, list[float]] = {"ours": [], "scipy": []}
  values = {}
  for _ in range(repeats):
    for name, compute in (
      ("ours", lambda: frechet.distance(a, b)),
      ("scipy", by_root),
    ):
      start = time.process_time()
      values[name] = compute()
      times[name].append(time.process_time() - start)
  ours, theirs = (statistics.median(times[k]) for k in ("ours", "scipy"))
  return {
    "benchmark": "frechet",
    "width": width,
    "seconds": round(ours, 3),
    "scipy_seconds": round(theirs, 3),
    "ratio": round(theirs / ours, 2),
    "distance": values["ours"],
    "relative_difference": values["ours"] / values["scipy"] - 1,
    "scipy": scipy.__version__,
    "load": os.getloadavg()[0],
  }


if __name__ == "__main__":
  sys.exit(main())
