"""Checkpoints: how long a save blocks, lasts, and a restore takes.

    python -m benchmarks.checkpoint --megabytes=256

prints one JSON line. A synchronous save waits until the manifest is written;
an asynchronous one blocks for checksums and the copy from the devices.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp

from training import checkpoint, environment, sharding
from training import state as state_lib

_LAYERS = 8


def main(argv: list[str] | None = None) -> int:
  """Run the benchmark; returns the exit status."""
  parser = argparse.ArgumentParser(prog="benchmarks.checkpoint")
  parser.add_argument("--megabytes", type=int, default=256, help="of the state")
  parser.add_argument("--repeats", type=int, default=7, help="median of these")
  parser.add_argument("--folder", help="where to write; a temporary folder")
  args = parser.parse_args(argv)
  mesh = sharding.make_mesh()
  state = sharding.init(lambda: make_state(args.megabytes), mesh)
  folder = tempfile.mkdtemp(dir=args.folder)
  try:
    result = measure(state, mesh, folder, args.repeats)
  finally:
    shutil.rmtree(folder)
  about = {
    "benchmark": "checkpoint",
    "megabytes": args.megabytes,
    "repeats": args.repeats,
    "load": round(os.getloadavg()[0], 2),
    "environment": environment.describe(),
  }
  print(json.dumps(about | result))
  return 0


def make_state(megabytes: int) -> state_lib.State:
  """Make a state like Adam's with an average: four copies of the parameters."""
  width = max(8, int((megabytes * 2**20 / (4 * 4 * _LAYERS)) ** 0.5))
  shape = (_LAYERS, width, width)
  copy = lambda i: {
    # Random bits, which do not compress.
    "layers": jax.random.normal(jax.random.key(i), shape, jnp.float32)
  }
  return state_lib.State(
    step=jnp.int32(0),
    params=copy(0),
    ema=copy(1),
    opt_state={"mu": copy(2), "nu": copy(3)},
    model_state={},
    frozen={},
  )


def measure(
  state: state_lib.State, mesh: jax.sharding.Mesh, folder: str, repeats: int
) -> dict[str, float]:
  """Time saves, alternating, and restores: medians in seconds."""
  checkpointer = checkpoint.Checkpointer(folder, keep=2)
  shapes = jax.eval_shape(lambda: state)
  times: dict[str, list[float]] = {
    "async_blocks_s": [],
    "async_total_s": [],
    "sync_s": [],
    "restore_s": [],
  }
  checkpointer.save(state, wait=True)  # compiles the checksums
  for i in range(1, 2 * repeats, 2):
    began = time.perf_counter()
    checkpointer.save(state.replace(step=jnp.int32(i)))
    times["async_blocks_s"].append(time.perf_counter() - began)
    checkpointer.wait()
    times["async_total_s"].append(time.perf_counter() - began)
    began = time.perf_counter()
    checkpointer.save(state.replace(step=jnp.int32(i + 1)), wait=True)
    times["sync_s"].append(time.perf_counter() - began)
    began = time.perf_counter()
    jax.block_until_ready(checkpointer.restore(shapes, mesh).state)
    times["restore_s"].append(time.perf_counter() - began)
  result = {name: statistics.median(found) for name, found in times.items()}
  result["async_share"] = result["async_blocks_s"] / result["sync_s"]
  return {name: round(value, 4) for name, value in result.items()}


if __name__ == "__main__":
  raise SystemExit(main())
