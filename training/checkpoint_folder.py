"""One checkpoint folder: written, committed by a rename, verified, loaded.

Orbax v1 is used here and nowhere else.
"""

import contextlib
import logging
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from orbax.checkpoint import v1 as ocp

from training import checkpoint_manifest, sharding, trees

_ITEM = "arrays"
_LOG = logging.getLogger(__name__)


class CheckpointError(ValueError):
  """A checkpoint cannot be written or none can be read."""


class Damaged(Exception):
  """A checkpoint that must not be used."""


def start(folder: pathlib.Path, named: Mapping[str, Any]) -> Any:
  """Copy arrays from the devices and begin to write them below a folder."""
  error = None
  if jax.process_index() == 0:
    try:
      if folder.exists():
        delete(folder)
      folder.mkdir()
    except OSError as caught:
      error = caught
  # Nobody waits for a process that has given up.
  if broadcast(np.int32(error is not None)):
    raise error or CheckpointError("process 0 cannot write: see its log")
  # Orbax refuses empty arrays; their shape in the manifest says it all.
  stored = {name: x for name, x in named.items() if x.size}
  return ocp.save_async(folder / _ITEM, stored)


def commit(
  temporary: pathlib.Path, folder: pathlib.Path, content: Mapping[str, Any]
) -> None:
  """Write the manifest, then give the folder its name."""
  manifest = checkpoint_manifest.build(temporary, content)
  checkpoint_manifest.write(temporary, manifest)
  if folder.exists():
    # Not ours to delete: a damaged one, or one that was not restored.
    aside = _free_name(folder)
    _LOG.warning("moving %s aside to %s", folder, aside.name)
    os.rename(folder, aside)
  os.rename(temporary, folder)
  checkpoint_manifest.sync_folder(folder.parent)


def content(
  named: Mapping[str, Any], sums: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
  """Describe arrays for the manifest: shape, dtype and checksum by name."""
  return {
    name: {**description, "sum": sums[name]}
    for name, description in trees.describe(named).items()
  }


def problems(
  folder: pathlib.Path, step: int | None = None, quick: bool = False
) -> list[str]:
  """Say what is wrong with a folder; [] if it is as it was saved."""
  try:
    manifest = checkpoint_manifest.read(folder)
  except ValueError as error:
    return [str(error)]
  if step is not None and manifest.get("step") != step:
    return [f"its manifest is of step {manifest.get('step')}"]
  return checkpoint_manifest.damage(folder, manifest, quick)


def load(
  folder: pathlib.Path,
  saved: Mapping[str, Mapping[str, Any]],
  mesh: Mesh,
  rule: sharding.Rule | None,
  prefix: str = "",
) -> dict[str, jax.Array]:
  """Load the arrays whose names begin with `prefix` onto a mesh.

  Args:
    folder: a verified checkpoint.
    saved: `arrays` of its manifest.
    mesh: any mesh.
    rule: see `sharding.shardings`.
    prefix: of the names.
  Raises:
    Damaged: unreadable, or the content is not what was saved.
  """
  names = [name for name in saved if name.startswith(prefix)]
  targets = {}
  for name in names:
    shape = tuple(saved[name]["shape"])
    targets[name] = jax.ShapeDtypeStruct(
      shape,
      jnp.dtype(saved[name]["dtype"]),
      sharding=sharding.named(mesh, name, shape, rule),
    )
  empty = {name: x for name, x in targets.items() if 0 in x.shape}
  stored = {name: x for name, x in targets.items() if name not in empty}
  context = ocp.Context()
  context.pytree.loading.partial_load = True
  try:
    with context:
      loaded = ocp.load(folder / _ITEM, stored) if stored else {}
  except Exception as error:
    first = (str(error).splitlines() or [""])[0]
    raise Damaged(f"{type(error).__name__}: {first[:200]}") from error
  for name, x in empty.items():
    loaded[name] = jax.device_put(np.zeros(x.shape, x.dtype), x.sharding)
  sums, _ = trees.checksums(loaded)
  wrong = [name for name in names if sums[name] != saved[name]["sum"]]
  if wrong:
    raise Damaged(f"other content than was saved in {summary(wrong)}")
  return loaded


@contextlib.contextmanager
def explained(path: pathlib.Path, verb: str) -> Iterator[None]:
  """Turn any failure into a CheckpointError with path and free space."""
  try:
    yield
  except CheckpointError:
    raise
  except Exception as error:
    first = (str(error).splitlines() or [""])[0]
    raise CheckpointError(
      f"cannot {verb} {path}: {type(error).__name__}: {first[:300]} "
      f"({_free_space(path)}). Older checkpoints are intact"
    ) from error


def delete(path: pathlib.Path) -> None:
  """Delete a file or a folder."""
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path)
  else:
    path.unlink()


def broadcast(value: Any) -> Any:
  """Take the value of process 0."""
  if jax.process_count() == 1:
    return value
  return multihost_utils.broadcast_one_to_all(value)


def steps(folder: str | os.PathLike) -> list[int]:
  """List the steps that have a folder, ascending, good or not."""
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    return []
  return sorted(
    int(path.name)
    for path in folder.iterdir()
    if re.fullmatch(r"0|[1-9]\d*", path.name) and path.is_dir()
  )


def primary() -> bool:
  """Whether this is process 0, which writes."""
  return jax.process_index() == 0


def agreed_problems(folder: pathlib.Path, step: int | None = None) -> list[str]:
  """Verify on process 0 for all."""
  found = problems(folder, step) if primary() else []
  if broadcast(np.int32(bool(found))):
    return found or ["process 0 says why"]
  return []


def agreed_steps(folder: pathlib.Path, limit: int = 256) -> list[int]:
  """List the steps as process 0 sees them, newest first."""
  found = np.full(limit, -1, np.int32)
  if primary():
    newest = sorted(steps(folder), reverse=True)[:limit]
    found[: len(newest)] = newest
  return [int(step) for step in broadcast(found) if step >= 0]


def wanted(folder: pathlib.Path, only: int | None) -> list[int]:
  """List the steps to try, newest first: all, or the one asked for.

  Raises:
    CheckpointError: the one asked for is absent.
  """
  found = agreed_steps(folder)
  if only is None:
    return found
  if only not in found:
    raise CheckpointError(
      f"no checkpoint of step {only} in {folder}: {_there(found)}"
    )
  return [only]


def rejection(
  folder: pathlib.Path,
  rejected: Sequence[tuple[int, Sequence[str]]],
  only: int | None = None,
) -> CheckpointError:
  """Make the error of steps that were tried in vain, with their problems."""
  said = "; ".join(f"step {step}: {summary(why)}" for step, why in rejected)
  if only is None:
    remedy = "Restore the files from a copy, or start over in a new directory"
    return CheckpointError(f"no good checkpoint in {folder}: {said}. {remedy}")
  others = [
    step
    for step in agreed_steps(folder)
    if step != only and not problems(folder / str(step), step, quick=True)
  ]
  return CheckpointError(f"damaged in {folder}: {said}; {_there(others)}")


def _there(found: Sequence[int]) -> str:
  """Say which steps could be had instead."""
  if not found:
    return "there is no other good one"
  return f"take one of {', '.join(map(str, sorted(found)))}"


def summary(items: Sequence[str], limit: int = 4) -> str:
  """Join the first few items, and count the rest."""
  text = ", ".join(items[:limit])
  hidden = len(items) - limit
  return text + (f" and {hidden} more" if hidden > 0 else "")


def _free_space(path: pathlib.Path) -> str:
  for parent in (path, *path.parents):
    with contextlib.suppress(OSError):
      return f"{shutil.disk_usage(parent).free / 2**20:,.0f} MiB free there"
  return "free space unknown"


def _free_name(folder: pathlib.Path) -> pathlib.Path:
  n = 1
  while (aside := folder.with_name(f"{folder.name}.aside-{n}")).exists():
    n += 1
  return aside
