"""Makes exactly N samples, resumable after a kill at any instant.

Sample i is a function of (what is sampled, i) alone: the sampler is called
with global indices, always in the same aligned batches of one shape, so the
files are the same however many samples are asked for and however often the
job was interrupted. A batch is one part file, renamed into place when it is
complete; asking for more samples later adds parts.

    generate(sample_fn, n=50_000, batch=64, out_dir="samples",
             identity={"checkpoint": ..., "seed": 0})
"""

import contextlib
import dataclasses
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from evaluation import atomic
from training import lock, sharding

_MANIFEST = "manifest.json"
_PARTS = "part-*"
_FORMAT = 1


class SamplesError(ValueError):
  """A folder of samples that is damaged, unfinished or of another job."""


@dataclasses.dataclass(frozen=True)
class Samples:
  """A folder of samples.

  Attributes:
    folder: Where the parts are.
    num: How many samples there are.
    batch: How many each part holds; the last one may hold more than `num`.
    identity: What decides the samples, as given to `generate`.
  """

  folder: Path
  num: int
  batch: int
  identity: Mapping[str, Any]

  def __len__(self) -> int:
    return self.num

  def part(
    self, index: int, names: Sequence[str] | None = None
  ) -> dict[str, np.ndarray]:
    """Returns the arrays of one part, cut to the samples that count.

    Args:
      index: Which part.
      names: Of the arrays to read, where the part has them; None reads all.

    Raises:
      SamplesError: It is absent or damaged.
    """
    path = _part_path(self.folder, index * self.batch)
    count = min(self.batch, self.num - index * self.batch)
    try:
      with np.load(path, allow_pickle=False) as file:
        wanted = file.files if names is None else {*names} & {*file.files}
        return {name: file[name][:count] for name in wanted}
    except FileNotFoundError as error:
      raise SamplesError(
        f"{self.folder}: samples {index * self.batch} to"
        f" {index * self.batch + count} are not there yet; run the job again"
      ) from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
      raise SamplesError(
        f"{path} is damaged ({error}); delete it and run the job again"
      ) from error

  def parts(
    self, names: Sequence[str] | None = None
  ) -> Iterator[dict[str, np.ndarray]]:
    """Yields every part in order, `num` samples in all; see `part`."""
    for index in range(-(-self.num // self.batch)):
      yield self.part(index, names)

  def rows(
    self, start: int, stop: int, names: Sequence[str] | None = None
  ) -> dict[str, np.ndarray]:
    """Returns the samples from `start` to before `stop`; see `part`."""
    first, last = start // self.batch, -(-stop // self.batch)
    parts = [self.part(index, names) for index in range(first, last)]
    rows = slice(start - first * self.batch, stop - first * self.batch)
    return {k: np.concatenate([x[k] for x in parts])[rows] for k in parts[0]}

  def missing(self) -> list[int]:
    """Lists the parts that are still to be made."""
    return [
      index
      for index in range(-(-self.num // self.batch))
      if not _sound(_part_path(self.folder, index * self.batch))
    ]


def generate(
  sample_fn: Callable[[np.ndarray], Mapping[str, Any]],
  n: int,
  batch: int,
  out_dir: str | os.PathLike,
  *,
  identity: Mapping[str, Any] | None = None,
  progress: Callable[[int, int], None] | None = None,
) -> Samples:
  """Makes the samples that are missing, and returns all of them.

  Args:
    sample_fn: Takes global indices, int32 [batch], and returns arrays with a
      leading axis [batch] (host or addressable device arrays). Row j must
      depend on its index only: derive its key by `fold_in(key, index)`. It is
      called for whole batches, so the last may reach beyond `n`. With several
      processes every one of them calls it with the same indices.
    n: How many samples.
    batch: How many at a time; part of what decides the samples.
    out_dir: Where the parts go; made if absent, shared by nobody else.
    identity: JSON values that decide the samples (checkpoint, seed,
      temperature, ...). Resuming another job's folder is an error.
    progress: Called with (samples done, n) at the start and after each batch.

  Raises:
    SamplesError: The folder holds another job's samples, or another process
      is making some there. All processes raise it: none waits for another.
    ValueError: Wrong sizes, or arrays without the axis [batch].
  """
  if n < 1 or batch < 1:
    raise ValueError(f"n {n} and batch {batch} must be at least 1")
  identity = json.loads(json.dumps(dict(identity or {}), sort_keys=True))
  samples = Samples(Path(out_dir), n, batch, identity)
  with contextlib.ExitStack() as stack:
    failed: Exception | None = None
    if jax.process_index() == 0:
      try:
        samples.folder.mkdir(parents=True, exist_ok=True)
        stack.enter_context(_locked(samples.folder))
        _begin(samples)
      except (SamplesError, OSError) as error:
        failed = error
    if sharding.agreed(failed is not None):
      raise failed or SamplesError(f"{out_dir}: process 0 cannot draw there")
    _make_missing(samples, sample_fn, progress)
  return samples


def _make_missing(samples, sample_fn, progress):
  n, batch = samples.num, samples.batch
  main = jax.process_index() == 0
  todo = np.zeros(-(-n // batch), bool)
  if main:
    todo[samples.missing()] = True
  if jax.process_count() > 1:
    todo = np.asarray(multihost_utils.broadcast_one_to_all(todo))
  done = n - sum(min(batch, n - int(i) * batch) for i in np.flatnonzero(todo))
  if progress:
    progress(done, n)
  for index in np.flatnonzero(todo):
    start = int(index) * batch
    indices = np.arange(start, start + batch, dtype=np.int32)
    arrays = {k: np.asarray(v) for k, v in sample_fn(indices).items()}
    for name, array in arrays.items():
      if array.shape[:1] != (batch,):
        raise ValueError(
          f"sample_fn returned {name} of shape {array.shape}; its first axis"
          f" must be the batch, {batch}"
        )
    if main:
      _write_part(_part_path(samples.folder, start), arrays)
    done += min(batch, n - start)
    if progress:
      progress(done, n)
  sharding.meet("samples")  # the others read what the first one wrote


def open_samples(folder: str | os.PathLike) -> Samples:
  """Opens a finished folder of `generate`.

  Raises:
    SamplesError: It is not such a folder, or parts are missing.
  """
  manifest = _read_manifest(Path(folder))
  if manifest is None:
    raise SamplesError(f"{folder} has no {_MANIFEST}: no folder of samples")
  samples = Samples(
    Path(folder), manifest["num"], manifest["batch"], manifest["identity"]
  )
  missing = samples.missing()
  if missing:
    raise SamplesError(
      f"{folder}: {len(missing)} parts are missing; run the job again"
    )
  return samples


def delete(folder: str | os.PathLike) -> None:
  """Deletes a folder of samples, the manifest after them.

  A kill leaves fewer samples of a known job, which can go on.

  Raises:
    SamplesError: Another process is making some there.
  """
  folder = Path(folder)
  with _locked(folder):
    for part in folder.glob(_PARTS):
      part.unlink()
    (folder / _MANIFEST).unlink(missing_ok=True)
  # Not while it is open: NFS keeps such a file under another name.
  (folder / lock.NAME).unlink(missing_ok=True)
  with contextlib.suppress(OSError):
    folder.rmdir()


def is_samples(folder: str | os.PathLike) -> bool:
  """Says whether a folder was written by `generate`."""
  return (Path(folder) / _MANIFEST).is_file()


def _locked(folder):
  try:
    return lock.take(folder)
  except lock.Locked as error:
    raise SamplesError(f"{error}: wait for it, or stop it") from error


def _begin(samples: Samples) -> None:
  """Checks or writes the manifest; removes parts left half-written."""
  for ours in (_PARTS, f"{_MANIFEST}.*"):
    for partial in samples.folder.glob(f"{ours}{atomic.SUFFIX}"):
      partial.unlink()
  known = _read_manifest(samples.folder)
  wanted = {
    "format": _FORMAT,
    "batch": samples.batch,
    "identity": dict(samples.identity),
  }
  if known is not None:
    num = known.pop("num")
    if known != wanted:
      raise SamplesError(
        f"{samples.folder} holds other samples: {_difference(known, wanted)};"
        " use another folder or delete it"
      )
    if num == samples.num:
      return
  elif any(samples.folder.glob(_PARTS)):
    raise SamplesError(
      f"{samples.folder} holds samples of an unknown job, without a"
      f" {_MANIFEST}: use another folder or delete it"
    )
  text = json.dumps({**wanted, "num": samples.num}, indent=2, sort_keys=True)
  atomic.replace(
    samples.folder / _MANIFEST, lambda f: f.write(text.encode() + b"\n")
  )


def _read_manifest(folder: Path) -> dict[str, Any] | None:
  path = folder / _MANIFEST
  try:
    manifest = json.loads(path.read_text())
  except FileNotFoundError:
    return None
  except ValueError as error:
    raise SamplesError(f"{path} is damaged: {error}") from error
  if not isinstance(manifest, dict) or set(manifest) != {
    "format",
    "num",
    "batch",
    "identity",
  }:
    raise SamplesError(f"{path} is not a manifest of samples")
  return manifest


def _difference(known: Any, wanted: Any, path: str = "") -> str:
  """Names the first field in which two nested dictionaries differ."""
  if isinstance(known, dict) and isinstance(wanted, dict):
    for key in sorted({*known, *wanted}):
      sides = [x.get(key, "not said") for x in (known, wanted)]
      if sides[0] != sides[1]:
        return _difference(*sides, f"{path}.{key}")
  return f"{path.removeprefix('.')} is {known!r:.80} there, not {wanted!r:.80}"


def _part_path(folder: Path, start: int) -> Path:
  return folder / f"part-{start:08d}.npz"


def _sound(path: Path) -> bool:
  """Says whether a part is there in full; its arrays are not read."""
  try:
    with zipfile.ZipFile(path) as file:
      return bool(file.namelist())
  except (OSError, zipfile.BadZipFile):
    return False


def _write_part(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
  atomic.replace(path, lambda file: np.savez(file, **arrays))
