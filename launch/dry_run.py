"""What a run would be, from its config alone: no data, no devices, no weights.

The resolved config, the parameters, the memory of the state on meshes of
several sizes, and the shapes of a batch. Everything is abstract, so that a
model of any size fits.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax
import ml_collections
from jax.sharding import AbstractMesh, AxisType

from launch import batch_sizes, flags, plans, tasks
from training import sharding, trees
from training import task as task_lib

# Device counts that the memory is shown for.
DEVICE_COUNTS = (1, 8, 16, 64, 256)


def report(config: ml_collections.ConfigDict) -> str:
  """Describes the run of a config, checking all that can be without its data.

  A mesh or batch that does not fit this machine's devices is said, not raised.

  Raises:
    ValueError: the config asks for something impossible.
  """
  plan = plans.make(config)
  plan.check_sampler(num_classes=1)  # a dataset that refuses no guidance
  adapter = plan.adapter
  lines = list(_lines(config, plan.task, plan.assumed, adapter.RULE))
  if tasks.offers(adapter, "remarks"):
    lines += [f"\nNote: {line}" for line in adapter.remarks(config)]
  # The devices of this machine need not be those of the run.
  try:
    mesh = sharding.make_mesh(config.mesh.to_dict())
    batch_sizes.check_mesh(config, adapter, mesh)
  except ValueError as error:
    lines.append(f"\nNot on this machine: {error}")
  return "\n".join(lines)


def abstract_state(task: task_lib.Task, measured: tasks.Measured) -> Any:
  """Returns the shapes of a task's state."""
  return jax.eval_shape(task.init, jax.random.key(0), measured)


def bytes_per_device(
  tree: Any, mesh: jax.sharding.Mesh | AbstractMesh, rule: sharding.Rule
) -> int:
  """Adds up what each device holds of a tree of shapes."""
  total = 0
  for name, leaf in trees.flatten(tree).items():
    spec = rule(mesh, name, tuple(leaf.shape))
    axes = [axis for axis in spec if axis is not None]
    total += trees.num_bytes([leaf]) // math.prod(mesh.shape[a] for a in axes)
  return total


def _lines(config, task, measured, rule) -> Iterator[str]:
  yield "Config"
  for name, value in flags.flatten(config):
    yield f"  {name} = {value!r}"

  state = abstract_state(task, measured)
  yield "\nParameters"
  yield from ("  " + line for line in trees.table(state.params).splitlines())

  batch_size = config.train.batch_size
  spec = task.batch_spec(batch_size)
  yield f"\nBatch of {batch_size}"
  width = max(len(name) for name in spec)
  for name, leaf in spec.items():
    yield f"  {name:<{width}}  {leaf.dtype.name}{list(leaf.shape)}"
  yield f"  {_size(trees.num_bytes(spec.values()))} in all"

  yield "\nWork"
  flops = task.train_flops(batch_size)
  yield f"  {flops:.3g} floating-point operations a step"
  yield f"  {flops * config.train.num_steps:.3g} in {config.train.num_steps:,}"

  yield "\nMemory a device, without activations"
  yield "  devices (fsdp)  state      + gradients"
  for count in DEVICE_COUNTS:
    mesh = AbstractMesh(
      (1, count, 1),
      sharding.AXES,
      axis_types=(AxisType.Auto,) * len(sharding.AXES),
    )
    held = bytes_per_device(state, mesh, rule)
    gradients = bytes_per_device({"params": state.params}, mesh, rule)
    yield f"  {count:<14}  {_size(held):<9}  {_size(held + gradients)}"


def _size(count: float) -> str:
  for unit in ("B", "KiB", "MiB"):
    if count < 1024:
      return f"{count:.4g} {unit}"
    count /= 1024
  return f"{count:,.4g} GiB"
