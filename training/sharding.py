"""One mesh and the rules that turn shapes into shardings.

Models are written as if for one device; a rule outside of them says where each
array lives. Axes: `data` (replicas), `fsdp` (parameters and optimiser state are
split, the batch too), `tensor` (matrices are split within a layer).
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")

# (mesh, name, shape) -> spec; the name is "params/decoder/layers/mlp/kernel".
Rule = Callable[[Mesh, str, tuple[int, ...]], P]


def make_mesh(
  shape: Mapping[str, int] | None = None,
  devices: Sequence[Any] | None = None,
) -> Mesh:
  """Make the mesh (data, fsdp, tensor).

  Args:
    shape: size by axis; absent axes are 1 and one may be -1 (the rest).
      None puts all devices on `data`.
    devices: all by default.
  Raises:
    ValueError: unknown axes or sizes that do not multiply to the devices.
  """
  devices = jax.devices() if devices is None else devices
  shape = {"data": -1} if shape is None else dict(shape)
  unknown = sorted(set(shape) - set(AXES))
  if unknown:
    raise ValueError(
      f"unknown mesh axes {unknown}: choose among {', '.join(AXES)}"
    )
  sizes = [int(shape.get(axis, 1)) for axis in AXES]
  if any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > 1:
    raise ValueError(
      f"mesh {shape}: every axis must be positive and at most one -1"
    )
  known = math.prod(size for size in sizes if size != -1)
  if -1 in sizes and len(devices) % known == 0:
    sizes[sizes.index(-1)] = len(devices) // known
  if math.prod(sizes) != len(devices):
    raise ValueError(
      f"mesh {dict(zip(AXES, sizes))} must multiply to the {len(devices)} "
      "devices: set one axis to -1"
    )
  return jax.make_mesh(
    tuple(sizes),
    AXES,
    axis_types=(AxisType.Auto,) * len(AXES),
    devices=devices,
  )


@dataclasses.dataclass(frozen=True)
class FsdpRule:
  """Split each large array along its first divisible dimension.

  "First after the layer axis" beats "largest": the same dimension of every
  matrix is gathered, and XLA needs no involuntary rematerialisation.

  Attributes:
    min_size: smaller arrays (in elements) are replicated.
    stacked: patterns of names of modules whose arrays begin with a layer axis,
      which is never split (`runs_0` of `layers.transformer.Stack`).
    tensor: (pattern, dimension) pairs: an array whose name the pattern finds
      is split over `tensor` along the dimension, if divisible. First match.
      By default the products of `layers.transformer`, as Shoeybi et al. 2019
      (sec. 3) split them: what comes in by columns, what goes out by rows.
  """

  min_size: int = 2**14
  stacked: tuple[str, ...] = (r"layers", r"runs_\d+")
  tensor: tuple[tuple[str, int], ...] = (
    (r"(query|key|value|wide)/kernel$", -1),
    (r"(out|narrow)/kernel$", -2),
  )

  def __call__(self, mesh: Mesh, name: str, shape: tuple[int, ...]) -> P:
    spec: list[str | None] = [None] * len(shape)
    if math.prod(shape) < self.min_size:
      return P()
    for pattern, dimension in self.tensor:
      if re.search(pattern, name):
        size = mesh.shape["tensor"]
        if size > 1 and shape[dimension] % size == 0:
          spec[dimension] = "tensor"
        break
    first = int(
      any(
        re.fullmatch(pattern, part)
        for pattern in self.stacked
        for part in name.split("/")
      )
    )
    # What lies before the last two is the window of a convolution: splitting
    # that halves it in space, and its gradients come out wrong.
    first = max(first, len(shape) - 2)
    if mesh.shape["fsdp"] > 1:
      for i in range(first, len(shape)):
        if spec[i] is None and shape[i] % mesh.shape["fsdp"] == 0:
          spec[i] = "fsdp"
          break
    while spec and spec[-1] is None:
      spec.pop()
    return P(*spec)


def shardings(mesh: Mesh, shapes: Any, rule: Rule | None = None) -> Any:
  """Turn a tree of shapes (of `jax.eval_shape`) into NamedShardings."""

  def one(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return named(mesh, name, leaf.shape, rule)

  return jax.tree_util.tree_map_with_path(one, shapes)


def named(
  mesh: Mesh, name: str, shape: Sequence[int], rule: Rule | None = None
) -> NamedSharding:
  """Apply the rule to one array."""
  rule = FsdpRule() if rule is None else rule
  return NamedSharding(mesh, rule(mesh, name, tuple(shape)))


def replicated(mesh: Mesh) -> NamedSharding:
  """Put the whole array on every device."""
  return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Split the leading axis over `data` and `fsdp`."""
  return NamedSharding(mesh, P(BATCH_AXES))


def check_batch(
  mesh: Mesh, batch_size: int, field: str = "train.batch_size"
) -> None:
  """Raise ValueError, naming the config's field, unless the mesh divides it."""
  count = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
  if batch_size % count:
    raise ValueError(
      f"{field} {batch_size} must be a multiple of {count} devices "
      f"(mesh data x fsdp): change {field} or the mesh"
    )


def init(
  function: Callable[..., Any], mesh: Mesh, *args: Any, rule: Rule | None = None
) -> Any:
  """Run `function(*args)` so that its result is born sharded."""
  shapes = jax.eval_shape(function, *args)
  out = shardings(mesh, shapes, rule)
  return jax.jit(function, out_shardings=out)(*args)


def place(tree: Any, mesh: Mesh, rule: Rule | None = None) -> Any:
  """Put host arrays, equal on every process, on the mesh by the rule."""
  tree = jax.tree.map(np.asarray, tree)
  return jax.device_put(tree, shardings(mesh, tree, rule))


def place_batch(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
  """Make global arrays of this process's rows of a batch."""
  where = batch_sharding(mesh)
  return {
    name: jax.make_array_from_process_local_data(where, np.asarray(rows))
    for name, rows in batch.items()
  }


def meet(name: str) -> None:
  """Wait until every process is here; `name` tells the places apart."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def agreed(value: int) -> int:
  """Returns what process 0 says, on every process."""
  if jax.process_count() == 1:
    return int(value)
  return int(multihost_utils.broadcast_one_to_all(np.int32(value)))
