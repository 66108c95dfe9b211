"""How long a run takes to its first step, with and without the compile cache.

    python -m benchmarks.startup --config=configs/dct_scenes.py:tiny

Starts `launch.train` for one step in processes of its own: cold with an empty
cache, then warm with what the cold one left, alternately. Prints a JSON line
with the medians, and the ratio asked for: warm <= 1/3 of cold.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from launch import errors, flags, setup
from training import environment

ONE_STEP = (
  "--config.train.num_steps=1",
  "--config.optimizer.warmup_steps=0",
  "--config.eval.every=0",
  "--config.sample.every=0",
  "--no_tensorboard",
)
ASKED = 1 / 3


@errors.command
def main(argv: list[str]) -> int:
  """Runs the command."""
  parser = flags.Parser(__doc__, "benchmarks.startup")
  parser.add_argument("--config", default="configs/dct_scenes.py:tiny")
  parser.add_argument("--repeats", type=int, default=3)
  args = parser.parse_arguments(argv)
  flags.load(args.config)
  runs: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
  with tempfile.TemporaryDirectory() as folder:
    start(args.config, Path(folder), "data")  # prepares the dataset
    for repeat in range(args.repeats):
      for kind, found in runs.items():
        found.append(start(args.config, Path(folder), str(repeat), kind))
  print(json.dumps({"config": args.config, **summary(runs)}))
  return 0


def start(
  config: str, folder: Path, cache: str, run: str = "first"
) -> dict[str, float]:
  """Runs one step: seconds in all and in compilation.

  Args:
    config: as on the command line.
    folder: for run directories and caches.
    cache: name of the compile cache; an unknown one is empty.
    run: name of the run directory, with the cache's.
  Raises:
    CommandError: the run failed.
  """
  workdir = folder / f"{run}-{cache}"
  began = time.monotonic()
  done = subprocess.run(
    [
      *(sys.executable, "-m", "launch.train", f"--config={config}"),
      *(f"--workdir={workdir}", *ONE_STEP),
    ],
    env={**os.environ, setup.CACHE_VARIABLE: str(folder / f"cache-{cache}")},
    capture_output=True,
    text=True,
  )
  wall = time.monotonic() - began
  if done.returncode:
    raise errors.CommandError(
      f"the run failed: {done.stderr.strip().splitlines()[-1]}"
    )
  status = json.loads((workdir / "status.json").read_text())
  return {"wall_s": wall, "compile_s": status["seconds"]["compile"]}


def summary(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
  """Takes the medians, and the ratios of warm to cold."""
  found: dict[str, Any] = {}
  for name in ("wall_s", "compile_s"):
    median = {
      kind: statistics.median(run[name] for run in measured)
      for kind, measured in runs.items()
    }
    for kind, value in median.items():
      found[f"{kind}_{name}"] = round(value, 2)
    found[f"{name.removesuffix('_s')}_ratio"] = round(
      median["warm"] / median["cold"], 3
    )
  return {
    **found,
    "asked": f"compile_ratio <= {ASKED:.2f}",
    "repeats": len(runs["cold"]),
    "load": os.getloadavg()[0],
    "cores": os.cpu_count(),
    "versions": environment.versions(),
    "revision": environment.revision(),
  }


if __name__ == "__main__":
  sys.exit(main())
