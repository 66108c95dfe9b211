"""What bounds a config's training step on known accelerators.

    python -m benchmarks.roofline --config=configs/dct_lsun.py --devices=8
    python -m benchmarks.roofline --workdir=runs/scenes

Analytic: the task's floating-point operations (the same that the loop's MFU
counts) against the peak, and the bytes of state and batch against the memory
bandwidth. Activations are left out, so the second bound is a lower one. With
--workdir the step time that a run reached is set against the bound of the
device it ran on.
"""

import json
import sys
import types
from pathlib import Path
from typing import Any

import jax
import ml_collections

from launch import curves, dry_run, errors, flags, runs, tasks
from training import hardware, rundir, trees

# Memory bandwidth in bytes/s, from the makers' data sheets; kinds as
# `training.hardware` knows them.
BANDWIDTH = {
  "NVIDIA A100": 2.04e12,
  "NVIDIA H100": 3.35e12,
  "NVIDIA H200": 4.8e12,
  "TPU v4": 1.23e12,
  "TPU v5 lite": 0.82e12,
  "TPU v5p": 2.77e12,
  "TPU v6 lite": 1.64e12,
}


@errors.command
def main(argv: list[str]) -> int:
  """Runs the command."""
  parser = flags.Parser(__doc__, "benchmarks.roofline", config="optional")
  parser.add_argument("--workdir", type=Path, help="a run that has steps")
  parser.add_argument("--devices", type=int, default=1, help="how many")
  args = parser.parse_arguments(argv)
  if (args.config is None) == (args.workdir is None):
    parser.error("give either --config=FILE.py or --workdir=DIR")
  if args.devices < 1:
    parser.error(f"--devices {args.devices} must be positive")
  if args.config is not None:
    for kind in BANDWIDTH:
      print(json.dumps(bound(args.config, kind, args.devices)))
    return 0
  print(json.dumps(reached(args.workdir)))
  return 0


def bound(
  config: ml_collections.ConfigDict, kind: str, devices: int
) -> dict[str, Any]:
  """Bounds the training step from below on so many devices of a kind.

  Returns:
    FLOPs and bytes a device and step, the two bounds in seconds, the larger of
    them, which it is, and examples/s.
  """
  adapter = tasks.get(config.task)
  measured = tasks.measured_or_assumed(adapter, config)
  task = adapter.make_task(config, measured)
  state = dry_run.abstract_state(task, measured)
  batch_size = config.train.batch_size
  flops = task.train_flops(batch_size) / devices
  # State is read and written; gradients are written and read.
  moved = 2 * trees.num_bytes(jax.tree.leaves(state.replace(frozen={})))
  moved += 2 * trees.num_bytes(jax.tree.leaves(state.params))
  moved += trees.num_bytes(task.batch_spec(batch_size).values())
  moved /= devices
  compute_s = flops / peak(kind)
  memory_s = moved / BANDWIDTH[kind]
  step_s = max(compute_s, memory_s)
  return {
    "device": kind,
    "devices": devices,
    "flops": flops,
    "bytes": moved,
    "compute_s": compute_s,
    "memory_s": memory_s,
    "step_s": step_s,
    "bound": "compute" if compute_s >= memory_s else "memory",
    "examples_per_s": batch_size / step_s,
  }


def peak(kind: str) -> float:
  """Returns the peak FLOP/s of a kind of device."""
  device = types.SimpleNamespace(platform="accelerator", device_kind=kind)
  return hardware.peak_flops(device)


def reached(workdir: Path) -> dict[str, Any]:
  """Sets the step time of a run against the bound of its device.

  Raises:
    CommandError: no speed was written yet, or the device is not known.
  """
  config = runs.load_config(workdir)
  found = curves.read(workdir)
  if "perf/step_s" not in found:
    raise errors.CommandError(f"{workdir} has no step times yet")
  step_s = found["perf/step_s"].last()
  environment = json.loads(
    (rundir.RunDirectory(workdir).path / "env.json").read_text("utf-8")
  )
  devices = environment["devices"]
  kinds = [kind for kind in BANDWIDTH if kind in devices["kind"]]
  if not kinds:
    raise errors.CommandError(
      f"the bound of {devices['kind']!r} is not known: known are "
      f"{', '.join(BANDWIDTH)}"
    )
  limit = bound(config, kinds[0], devices["count"])
  return {
    **limit,
    "bound_s": limit["step_s"],
    "step_s": step_s,
    "share": limit["step_s"] / step_s,
    "examples_per_s": config.train.batch_size / step_s,
  }


if __name__ == "__main__":
  sys.exit(main())
