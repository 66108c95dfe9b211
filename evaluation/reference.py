"""Statistics of a set of images on disk: ADM's, pytorch-fid's and our files.

One `.npz` serves all: `mu` and `sigma` (pool_3), as pytorch-fid and TTUR read
them; `mu_s` and `sigma_s` (spatial) and `arr_0` (images for precision and
recall), as ADM does; and, in ours, `metadata` (JSON) with the dataset and its
digest, count, size, crop, preprocessing, weights and revision, and `pool`, the
features of some images, which `chosen` says the choice of, and where others
could not be read `places`. Sets that were made differently do not mix.
"""

import dataclasses
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation import archive, atomic, features, image_sets

# Every metadata has these; the rest is for people.
REQUIRED = (
  "dataset",
  "digest",
  "count",
  "size",
  "crop",
  "preprocess",
  "weights",
)
# How images are chosen whose features or pictures a file holds; files that do
# not say it hold the first ones.
CHOSEN = "evenly spaced"
_PIECE = 64  # images at a time
# What is read of a file; its images are not.
_ARRAYS = ("mu", "sigma", "mu_s", "sigma_s", "pool", "places", "metadata")
# Two sets that differ in one of these are not comparable.
_DECISIVE = ("preprocess", "weights", "size")


class StatisticsError(ValueError):
  """A file that holds no statistics, or sets that do not compare."""


@dataclasses.dataclass(frozen=True)
class Gaussian:
  """Mean [d] and covariance [d, d] of features, and their count if known."""

  mean: np.ndarray
  covariance: np.ndarray
  count: int | None


@dataclasses.dataclass(frozen=True)
class Statistics:
  """What is known of a set of images.

  Attributes:
    name: Where it comes from.
    pool: Of pool_3, for FID.
    spatial: For sFID; None in files of pytorch-fid.
    features: pool_3 features [n, 2048] of some images, or None.
    has_images: Whether `arr_0` holds images for precision and recall.
    metadata: As in `REQUIRED`; None for files of other tools.
    origin: "ours", "adm" or "pytorch-fid".
    size: Rows and columns of `arr_0`, or None.
    looked_up: Which images of the set `features` are of, int [n]; None where
      `chosen` says it all, as every image was readable.
  """

  name: str
  pool: Gaussian
  spatial: Gaussian | None
  features: np.ndarray | None
  has_images: bool
  metadata: Mapping[str, Any] | None
  origin: str
  size: tuple[int, int] | None = None
  looked_up: np.ndarray | None = None

  def known(self, key: str) -> Any:
    """Returns what is known of a key of the metadata, else None.

    ADM's files have its preprocessing by definition, and where they hold
    images those show their size.
    """
    if self.metadata is not None:
      return self.metadata[key]
    if key == "size" and self.size is not None:
      return list(self.size)
    return "adm" if (key, self.origin) == ("preprocess", "adm") else None

  @property
  def places(self) -> np.ndarray:
    """Which images of the set `features` are of, int [n]."""
    if self.features is None or self.pool.count is None:
      raise StatisticsError(f"{self.name} has no features of images it counts")
    if self.looked_up is not None:
      return self.looked_up
    if self.chosen == CHOSEN:
      return image_sets.spaced(len(self.features), self.pool.count)
    return np.arange(len(self.features))

  @property
  def chosen(self) -> str:
    """How those images were chosen."""
    if self.metadata is None:
      return "by another tool"
    return self.metadata.get("chosen", "the first ones")

  @property
  def notes(self) -> tuple[str, ...]:
    """What a reader of a result should know."""
    if self.metadata is not None:
      left_out = self.metadata.get("unreadable", 0)
      total = self.metadata["count"] + left_out
      name = self.metadata["dataset"]
      return tuple(image_sets.unreadable(left_out, total, name))
    keys = ("preprocess", "weights", "size", "count")
    unknown = ", ".join(
      key for key in keys if key == "count" or self.known(key) is None
    )
    said = (
      f"{self.name} does not say how it was made ({self.origin} format):"
      f" {unknown} are taken on trust"
    )
    if self.known("preprocess") is None:
      said += "; what is computed with it is not comparable with adm"
    return (said,)


def of(
  found: features.Features,
  net: features.Network,
  *,
  dataset: str,
  crop: str = "none",
  extra: Mapping[str, Any] | None = None,
) -> Statistics:
  """Makes statistics of extracted features.

  Args:
    found: Of `features.extract`.
    net: What extracted them.
    dataset: Its name.
    crop: How images were brought to their size.
    extra: More metadata, such as the revision of the code, and `unreadable`,
      of how many images there are no features.
  """
  metadata = {
    "dataset": dataset,
    "digest": found.digest,
    "count": found.count,
    "size": list(found.size),
    "crop": crop,
    "preprocess": net.preprocess,
    "weights": net.weights,
    "chosen": CHOSEN,
    **(extra or {}),
  }
  pool, spatial = (
    Gaussian(m.mean, m.covariance, m.count)
    for m in (found.moments["pool"], found.moments["spatial"])
  )
  return Statistics(
    dataset,
    pool,
    spatial,
    found.kept.get("pool"),
    False,
    metadata,
    "ours",
    looked_up=found.places if "unreadable" in metadata else None,
  )


def save(
  path: str | os.PathLike,
  statistics: Statistics,
  images: image_sets.ImageSet | None = None,
) -> None:
  """Writes a file that pytorch-fid's and our tools read, atomically.

  Args:
    path: An `.npz`.
    statistics: With metadata.
    images: Go into the file as `arr_0`, piece by piece; ADM's evaluator wants
      some, for precision and recall. Chosen as `chosen` says.

  Raises:
    StatisticsError: There is no metadata to write.
  """
  missing = [k for k in REQUIRED if k not in (statistics.metadata or {})]
  if missing:
    raise StatisticsError(f"statistics without {', '.join(missing)}")
  arrays: dict[str, np.ndarray] = {
    "mu": statistics.pool.mean,
    "sigma": statistics.pool.covariance,
  }
  if statistics.spatial is not None:
    arrays["mu_s"] = statistics.spatial.mean
    arrays["sigma_s"] = statistics.spatial.covariance
  if statistics.features is not None:
    arrays["pool"] = statistics.features.astype(np.float32)
    if statistics.looked_up is not None:
      arrays["places"] = statistics.looked_up
  text = json.dumps(dict(statistics.metadata or {}), sort_keys=True)
  arrays["metadata"] = np.array(text)

  pieces, shape = (), None
  if images is not None:
    pieces = (piece for _, piece in images.batches(_PIECE))
    shape = (images.num, *statistics.metadata["size"], 3)
  atomic.replace(path, lambda file: archive.write(file, arrays, pieces, shape))


def is_statistics(path: str | os.PathLike) -> bool:
  """Says whether a file is an `.npz` with moments in it."""
  try:
    with zipfile.ZipFile(path) as file:
      names = set(file.namelist())
  except (OSError, zipfile.BadZipFile):
    return False
  return {"mu.npy", "sigma.npy"} <= names


def load(path: str | os.PathLike) -> Statistics:
  """Reads a file of any of the three kinds; `arr_0` is left in it.

  Raises:
    StatisticsError: The file is absent, damaged or holds something else.
  """
  name = str(path)
  arrays, has_images = _read(path)
  metadata = _metadata(name, arrays)
  count = None if metadata is None else metadata["count"]
  pool = _gaussian(name, arrays, "", count)
  spatial = _gaussian(name, arrays, "_s", count) if "mu_s" in arrays else None
  if metadata is not None:
    origin = "ours"
  else:
    origin = "adm" if spatial is not None else "pytorch-fid"
  kept = arrays.get("pool")
  size = _image_size(path) if has_images else None
  return Statistics(
    name,
    pool,
    spatial,
    kept,
    has_images,
    metadata,
    origin,
    size,
    arrays.get("places"),
  )


def check_comparable(a: Statistics, b: Statistics, official: bool) -> None:
  """Raises StatisticsError where two sets were made differently.

  Args:
    a: One set.
    b: Another.
    official: Whether our network has the weights of published numbers, as the
      files of other tools are assumed to.
  """
  for part in (a, b):
    _check_official(part, official)
  for key in _DECISIVE:
    first, second = a.known(key), b.known(key)
    if None not in (first, second) and first != second:
      raise StatisticsError(
        f"{a.name} and {b.name} do not compare: {key} is"
        f" {first!r:.70} in one and {second!r:.70} in the"
        " other; make both with the same"
      )


def check_made_with(
  found: Statistics, net: features.Network, size: Sequence[int] = ()
) -> None:
  """Raises StatisticsError where statistics are not of this network.

  Args:
    found: The statistics.
    net: What other images will go through.
    size: Rows and columns of those images, where they are known.
  """
  _check_official(found, net.official)
  made = {"preprocess": net.preprocess, "weights": net.weights}
  if size:
    made["size"] = list(size)
  for key, ours in made.items():
    theirs = found.known(key)
    if theirs not in (None, ours):
      raise StatisticsError(
        f"{found.name} was made with {key} {theirs!s:.70}, not {ours!s:.70}:"
        " make both sets with the same"
      )


def _check_official(found, official):
  if found.metadata is None and not official:
    raise StatisticsError(
      f"{found.name} was made by another tool, surely with the public weights,"
      " and these are others: make both sets with the same ones"
    )


def _read(path) -> tuple[dict[str, np.ndarray], bool]:
  if not Path(path).is_file():
    raise StatisticsError(f"{path} is absent")
  try:
    with np.load(path, allow_pickle=False) as file:
      names = set(file.files)
      wanted = names & {*_ARRAYS}
      return {k: file[k] for k in wanted}, "arr_0" in names
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    raise StatisticsError(
      f"{path} cannot be read as .npz: {error}; fetch or make it again"
    ) from error


def _image_size(path) -> tuple[int, int]:
  try:
    shape, _ = archive.header(path)
  except archive.Damaged as error:
    raise StatisticsError(str(error)) from error
  if len(shape) not in (3, 4):
    raise StatisticsError(f"{path}: arr_0 has shape {shape}, no images")
  return shape[1], shape[2]


def _metadata(name, arrays) -> dict[str, Any] | None:
  if "metadata" not in arrays:
    return None
  try:
    metadata = json.loads(str(arrays["metadata"]))
  except ValueError as error:
    raise StatisticsError(f"{name}: its metadata is damaged") from error
  missing = [k for k in REQUIRED if k not in metadata]
  if missing:
    raise StatisticsError(f"{name}: its metadata has no {', '.join(missing)}")
  return metadata


def _gaussian(name, arrays, suffix, count) -> Gaussian:
  keys = f"mu{suffix}", f"sigma{suffix}"
  if not set(keys) <= set(arrays):
    raise StatisticsError(
      f"{name} has no {' and '.join(keys)}: it holds no statistics"
    )
  mean, covariance = (np.asarray(arrays[key], np.float64) for key in keys)
  if mean.ndim != 1 or covariance.shape != (mean.size, mean.size):
    raise StatisticsError(
      f"{name}: {keys[0]} has shape {mean.shape}, {keys[1]} {covariance.shape}"
    )
  if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
    raise StatisticsError(f"{name}: {keys[0]} or {keys[1]} is not finite")
  scale = max(float(np.abs(covariance).max()), 1e-30)
  if np.abs(covariance - covariance.T).max() > 1e-5 * scale:
    raise StatisticsError(f"{name}: {keys[1]} is not symmetric")
  return Gaussian(mean, covariance, count)
