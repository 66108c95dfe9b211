"""Compiles a config's training step for TPU pods, on a machine without a TPU.

    python -m benchmarks.compile_tpu --config=configs/dct_lsun.py \
      --topologies=v5e:4x4,v5e:16x16

Needs the optional libtpu (`pip install -e '.[topology]'`). Prints one
JSON line a topology: memory a chip, whether it fits, collectives, compile time.
Ends with 1 where the step does not fit, the state is not donated, or XLA has to
copy whole arrays to change their sharding ("involuntary rematerialization").
"""

import contextlib
import importlib.util
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax
import ml_collections
from jax.experimental import topologies

from launch import errors, flags, tasks
from training import environment, sharding
from training import state as state_lib

# High-bandwidth memory of a chip, from the maker's system architecture pages.
MEMORY_GIB = {"v4": 32, "v5e": 16, "v5p": 95, "v6e": 32}
# XLA keeps some of it for itself.
_USABLE = 0.95
_NO_MEMORY = "RESOURCE_EXHAUSTED"
_REMATERIALIZATION = "Involuntary full rematerialization"
_COLLECTIVES = re.compile(
  r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)"
  r"(?:-start)?\("
)


@errors.command
def main(argv: list[str]) -> int:
  """Runs the command."""
  parser = flags.Parser(__doc__, "benchmarks.compile_tpu", config="required")
  parser.add_argument("--topologies", default="v5e:4x4,v5e:16x16")
  args = parser.parse_arguments(argv)
  if not available():
    raise errors.CommandError(
      "libtpu is not installed: it holds the compiler",
      "pip install -e '.[topology]'",
    )
  fine = True
  for name in args.topologies.split(","):
    found = compile_step(args.config, name)
    print(json.dumps({"config": args.config_name, **found}), flush=True)
    fine &= found["fits"] and found["donated"] and not found["rematerialized"]
  return 0 if fine else 1


def available() -> bool:
  """Says whether the TPU compiler is installed."""
  return importlib.util.find_spec("libtpu") is not None


def compile_step(
  config: ml_collections.ConfigDict, topology: str
) -> dict[str, Any]:
  """Lowers and compiles the training step of a config for a topology.

  Args:
    config: of any task; its mesh has to fit the number of chips.
    topology: kind and shape of the slice, `v5e:4x4` has 16 chips.
  Returns:
    `fits`, `donated`, `rematerialized` (bool) and `compile_s`. Where it fits,
    GiB a chip (`state_gib`, the arguments; `temporary_gib`, `peak_gib`) and
    `collectives` (by kind, loops counted once); else `why` it does not.
  """
  devices = topology_devices(topology)
  adapter = tasks.get(config.task)
  with config.unlocked():
    config = ml_collections.ConfigDict(config.to_dict())
  if config.train.dtype == "auto":
    config.train.dtype = "bfloat16"
  measured = tasks.measured_or_assumed(adapter, config)
  task = adapter.make_task(config, measured)
  mesh = sharding.make_mesh(config.mesh.to_dict(), devices)
  sharding.check_batch(mesh, config.train.batch_size)
  state, batch, key = _arguments(adapter, task, measured, config, mesh)
  step = jax.jit(
    task.train_step,
    donate_argnums=0,
    out_shardings=(
      jax.tree.map(lambda x: x.sharding, state),
      sharding.replicated(mesh),
    ),
  )
  found = {
    "topology": topology,
    "chips": len(devices),
    "mesh": dict(mesh.shape),
    "batch_size": config.train.batch_size,
    "versions": environment.versions(),
    "revision": environment.revision(),
  }
  began = time.monotonic()
  with _captured_stderr() as said:
    try:
      compiled = step.lower(state, batch, key).compile()
    except jax.errors.JaxRuntimeError as error:
      if _NO_MEMORY not in str(error):
        raise
      compiled = None
      used = re.search(r"Used [^.]+\.\d+\w of [^.]+\.\d+\w", str(error))
  found["compile_s"] = round(time.monotonic() - began, 1)
  found["rematerialized"] = _REMATERIALIZATION in said[0]
  if compiled is None:
    why = used[0] if used else "out of memory"
    return {**found, "fits": False, "donated": True, "why": why}
  return {**found, **_analysis(compiled, state, topology)}


def _analysis(compiled, state, topology) -> dict[str, Any]:
  """Reads memory and collectives off a compiled step."""
  memory = compiled.memory_analysis()
  gib = lambda count: round(count / 2**30, 3)
  peak = (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
    + memory.temp_size_in_bytes
  )
  limit = MEMORY_GIB[topology.split(":")[0]] * 2**30
  frozen = _local_bytes(state.frozen)
  donated = memory.alias_size_in_bytes >= _local_bytes(state) - frozen - 2**20
  return {
    "state_gib": gib(memory.argument_size_in_bytes),
    "temporary_gib": gib(memory.temp_size_in_bytes),
    "peak_gib": gib(peak),
    "fits": peak <= _USABLE * limit,
    "donated": donated,
    "collectives": dict(Counter(_COLLECTIVES.findall(compiled.as_text()))),
  }


def topology_devices(topology: str) -> list[Any]:
  """Returns the devices of a TPU slice that need not exist.

  Raises:
    CommandError: an unknown kind or shape.
  """
  kind = topology.split(":")[0]
  if kind not in MEMORY_GIB:
    raise errors.CommandError(
      f"no TPU {kind!r}{flags.did_you_mean(kind, [*MEMORY_GIB])}"
    )
  # The compiler is loaded by several processes on machines that test.
  os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  try:
    # It asks in vain where it runs, and says so at length.
    with _captured_stderr():
      description = topologies.get_topology_desc(
        platform="tpu", topology_name=topology
      )
  except Exception as error:
    raise errors.CommandError(
      f"no topology {topology}: {str(error)[:200]}"
    ) from error
  return list(description.devices)


def _arguments(adapter, task, measured, config, mesh):
  """Describes state, batch and key, with their shardings."""
  shapes = jax.eval_shape(task.init, jax.random.key(0), measured)
  where = sharding.shardings(mesh, shapes, adapter.RULE)
  place = lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at)
  state: state_lib.State = jax.tree.map(place, shapes, where)
  rows = sharding.batch_sharding(mesh)
  spec = task.batch_spec(config.train.batch_size)
  batch = {name: place(x, rows) for name, x in spec.items()}
  key = jax.eval_shape(lambda: jax.random.key(0))
  return state, batch, place(key, sharding.replicated(mesh))


def _local_bytes(tree) -> int:
  """Adds up what one device holds of placed shapes."""
  total = 0
  for leaf in jax.tree.leaves(tree):
    shape = leaf.sharding.shard_shape(leaf.shape)
    size = leaf.dtype.itemsize
    for side in shape:
      size *= side
    total += size
  return total


@contextlib.contextmanager
def _captured_stderr() -> Iterator[list[str]]:
  """Collects what the process writes to stderr, XLA's own lines included."""
  said = [""]
  sys.stderr.flush()
  kept = os.dup(2)
  with tempfile.TemporaryFile() as file:
    os.dup2(file.fileno(), 2)
    try:
      yield said
    finally:
      sys.stderr.flush()
      os.dup2(kept, 2)
      os.close(kept)
      file.seek(0)
      said[0] = file.read().decode(errors="replace")


if __name__ == "__main__":
  sys.exit(main())
