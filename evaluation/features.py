"""Extracts features of a set of images, on every device of every process.

Each process takes every n-th batch, splits it over its own devices, and never
waits for another until the end, when moments and kept features are gathered
once. Batches are padded to one shape and padding is cut off, so that results
depend neither on the batch size nor on devices. Letters: `n` images, `d`
features.
"""

import dataclasses
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from evaluation import (
  image_sets,
  inception,
  inception_weights,
  moments,
  preprocess,
)

KINDS = ("pool", "spatial", "logits")
_MOMENTS = ("pool", "spatial")


@dataclasses.dataclass(frozen=True)
class Network:
  """What turns images into features.

  Attributes:
    params: Of `apply`; a jitted argument.
    apply: Maps (params, uint8 images [b, h, w, 3]) to features by kind.
    preprocess: The mode, one of `preprocess.MODES`.
    weights: SHA-256 of the weights, or "random:SEED".
    official: Whether published numbers use these weights.
  """

  params: Any
  apply: Callable[[Any, jax.Array], Mapping[str, jax.Array]]
  preprocess: str
  weights: str
  official: bool

  @property
  def random(self) -> bool:
    """Whether results are for tests only."""
    return self.weights.startswith(inception_weights.RANDOM)


@dataclasses.dataclass(frozen=True)
class Features:
  """What is known of a set after one pass.

  Attributes:
    count: Number of images, without unreadable ones.
    moments: Of `pool` (FID) and `spatial` (sFID).
    kept: The features that were asked for by kind, [n, d] float32, in order.
    size: Rows and columns of the images.
    digest: SHA-256 over the pixels of all images in order.
    places: Which images of the set features were kept of, int [n]; None where
      there is no order.
  """

  count: int
  moments: Mapping[str, moments.Moments]
  kept: Mapping[str, np.ndarray]
  size: tuple[int, int]
  digest: str
  places: np.ndarray | None = None


def network(
  weights: inception_weights.Weights, mode: str = preprocess.DEFAULT
) -> Network:
  """Makes Inception with one of the three preprocessings."""
  preprocess.check(mode)

  def apply(params, images):
    return inception.features(params, preprocess.prepare(images, mode))

  return Network(weights.params, apply, mode, weights.sha256, weights.official)


def extract(
  images: image_sets.ImageSet,
  net: Network,
  *,
  batch: int = 64,
  keep: Sequence[str] = ("pool", "logits"),
  keep_num: int | None = None,
  devices: Sequence[jax.Device] | None = None,
  progress: Callable[[int, int], None] | None = None,
) -> Features:
  """Extracts features in one pass; every process calls it.

  Args:
    images: The set.
    net: Of `network`.
    batch: Images at a time in a process, rounded up to its devices.
    keep: Kinds whose features are returned; the others only as moments.
    keep_num: Keep those of so many images, evenly spaced (None: of all).
    devices: Of this process; all of its own by default.
    progress: Called with (images done, images) by process 0.

  Raises:
    FeatureError: Features are not finite.
    ImageSetError: The images cannot be read or differ in size.
  """
  devices = jax.local_devices() if devices is None else devices
  batch = -(-batch // len(devices)) * len(devices)
  num = images.num if keep_num is None else min(keep_num, images.num)
  places = image_sets.spaced(num, images.num)
  run = _jitted(net, devices)
  running = {kind: moments.Running() for kind in _MOMENTS}
  kept: dict[str, list[np.ndarray]] = {kind: [] for kind in keep}
  rows, kept_rows, hashes, size = [], [], [], (0, 0)
  index, processes = jax.process_index(), jax.process_count()
  failed = None
  try:
    for start, piece in images.batches(batch, index, processes):
      found = run(_padded(piece, batch))
      size = piece.shape[1:3]
      hashes += image_sets.hashes(piece)
      rows.append(np.arange(start, start + len(piece)))
      wanted = image_sets.among(places, start, len(piece))
      kept_rows.append(rows[-1][wanted])
      for kind in {*_MOMENTS, *keep}:
        values = moments.check_finite(found[kind][: len(piece)])
        if kind in running:
          running[kind].add(values)
        if kind in kept:
          kept[kind].append(values[wanted])
      if progress and index == 0:
        # The others are about as far.
        progress(min(start + processes * batch, images.num), images.num)
  except ValueError as error:
    if processes == 1:
      raise
    failed = error
  found = _gather(running, kept, kept_rows, rows, hashes, size, failed)
  # Rows count what is read, places also what is not.
  return dataclasses.replace(found, places=images.readable()[found.places])


def _jitted(net: Network, devices: Sequence[jax.Device]):
  """Returns the network on padded host batches, params put once."""
  mesh = jax.sharding.Mesh(
    np.array(devices), ("data",), axis_types=(AxisType.Auto,)
  )
  replicated = NamedSharding(mesh, P())
  split = NamedSharding(mesh, P("data"))
  params = jax.device_put(net.params, replicated)
  apply = jax.jit(
    net.apply, in_shardings=(replicated, split), out_shardings=split
  )

  def run(images: np.ndarray) -> dict[str, np.ndarray]:
    return jax.device_get(apply(params, jax.device_put(images, split)))

  return run


def _padded(images: np.ndarray, batch: int) -> np.ndarray:
  missing = batch - len(images)
  return np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)))


def _gather(running, kept, kept_rows, rows, hashes, size, failed) -> Features:
  """Brings the parts of all processes together, the same on each.

  Where one has failed all raise its error: none waits for another.
  """
  arrays = {
    "rows": _joined(rows),
    "kept_rows": _joined(kept_rows),
    "hashes": np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32),
    "size": np.array([size]),
  }
  for kind, pieces in kept.items():
    if pieces:
      arrays[f"kept/{kind}"] = np.concatenate(pieces)
  for kind, found in running.items():
    part = found.moments()
    if part is not None:
      arrays[f"{kind}/count"] = np.array([part.count])
      arrays[f"{kind}/mean"] = part.mean[None]
      arrays[f"{kind}/scatter"] = part.scatter[None]
  if failed is not None:
    arrays = {"error": np.array(str(failed))}
  everyone = [arrays] if jax.process_count() == 1 else _exchange(arrays)
  sets, total = [], {kind: None for kind in running}
  for found in everyone:
    if "error" in found:
      raise image_sets.ImageSetError(str(found["error"])) from failed
    if not len(found["rows"]):
      continue
    for kind, known in total.items():
      part = moments.Moments(
        int(found.pop(f"{kind}/count")[0]),
        found.pop(f"{kind}/mean")[0],
        found.pop(f"{kind}/scatter")[0],
      )
      total[kind] = part if known is None else known.merge(part)
    sets.append(found)
  sizes = sorted({tuple(map(int, found["size"][0])) for found in sets})
  if len(sizes) > 1:
    first, other = (" x ".join(map(str, size)) for size in sizes[:2])
    raise image_sets.ImageSetError(
      f"images are {first} and {other}; give them one size with --size=SIDE"
    )
  order = np.concatenate([found["rows"] for found in sets])
  place = np.argsort(order)
  hashes = np.concatenate([found["hashes"] for found in sets])[place]
  kept_order = np.concatenate([found["kept_rows"] for found in sets])
  kept_place = np.argsort(kept_order)
  joined = {}
  for kind in kept:
    values = np.concatenate([found[f"kept/{kind}"] for found in sets])
    joined[kind] = values[kept_place]
  digest = image_sets.digest([row.tobytes() for row in hashes])
  kept_order = kept_order[kept_place]
  return Features(len(order), total, joined, sizes[0], digest, kept_order)


def _joined(rows: Sequence[np.ndarray]) -> np.ndarray:
  return np.concatenate(rows) if rows else np.zeros(0, np.int64)


def _exchange(arrays: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
  """Gives every process the arrays of each, whatever their sizes.

  One process after the other: those of all at once, 66 MB of each, would lie
  on every device. They travel as bytes: JAX would round float64 to float32.
  """
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)
  raw = np.frombuffer(buffer.getvalue(), np.uint8)
  length = np.array([len(raw)], np.int32)
  lengths = np.asarray(multihost_utils.process_allgather(length)).reshape(-1)
  for index, count in enumerate(map(int, lengths)):
    sent = np.zeros(-(-count // 4), np.uint32)
    ours = index == jax.process_index()
    if ours:
      sent.view(np.uint8)[:count] = raw
    got = multihost_utils.broadcast_one_to_all(sent, is_source=ours)
    data = np.asarray(got).view(np.uint8)[:count].tobytes()
    yield dict(np.load(io.BytesIO(data)))
