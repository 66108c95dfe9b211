"""The run directory: what a run was asked for, where it ran, what it measured.

    config.json   the resolved config; a run goes on only with the same one
    env.json      the last start: revision, versions, devices, command, seed
    measured.npz  what the task measured on the data before its first step

The loop adds status.json, metrics.jsonl, checkpoints/, samples/ and eval/.
"""

import contextlib
import datetime
import importlib.metadata
import io
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from launch import errors, flags

CONFIG = "config.json"
ENVIRONMENT = "env.json"
MEASURED = "measured.npz"

# What may change between two starts of a run: none of it changes what a step
# computes.
FREE = (
  "platform",
  "mesh.",
  "eval.",
  "sample.",
  "data.dir",
  "train.log_every",
  "train.checkpoint_every",
  "train.keep",
  "train.on_nan",
)
VERSIONS = (
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "numpy",
  "tensorflow-cpu",
  "tensorflow",
  "tensorflow-datasets",
  "tessera-images",
)
_SHOWN = 12


def begin(
  workdir: Path, config: ml_collections.ConfigDict, accept_changes: bool = False
) -> None:
  """Makes or re-enters a run directory.

  Args:
    workdir: made if needed; process 0 writes `config.json` and `env.json`.
    config: the resolved config.
    accept_changes: go on although the config differs; the old one is kept as
      `config-N.json`.
  Raises:
    CommandError: the run was started with another config (with the
      difference), or the directory belongs to something else.
  """
  path = workdir / CONFIG
  new = plain(config)
  if path.exists():
    old = _read_json(path)
    changes = [x for x in difference(old, new) if not x.startswith(FREE)]
    if changes and not accept_changes:
      shown = "; ".join(changes[:_SHOWN])
      if len(changes) > _SHOWN:
        shown += f"; and {len(changes) - _SHOWN} more"
      raise errors.CommandError(
        f"{workdir} holds a run of another config: {shown}: choose another "
        "--workdir, or go on with --accept_changes",
        f"python -m launch.report --workdir={shlex.quote(str(workdir))}",
      )
    if changes and jax.process_index() == 0:
      number = len(list(workdir.glob("config-*.json"))) + 1
      write(workdir / f"config-{number}.json", _json(old))
  elif workdir.exists() and not workdir.is_dir():
    raise errors.CommandError(f"--workdir={workdir} is a file, not a folder")
  if jax.process_index() == 0:
    workdir.mkdir(parents=True, exist_ok=True)
    write(path, _json(new))
    write(workdir / ENVIRONMENT, _json(environment(config)))


def load_config(workdir: Path) -> ml_collections.ConfigDict:
  """Reads the config of a run.

  Raises:
    CommandError: the directory holds no run.
  """
  path = workdir / CONFIG
  if not path.is_file():
    raise errors.CommandError(
      f"{workdir} holds no run ({CONFIG} is missing): give the --workdir of "
      "launch.train",
      f"python -m launch.train --config={_example()} "
      f"--workdir={shlex.quote(str(workdir))}",
    )
  config = ml_collections.ConfigDict(_tuples(_read_json(path)))
  return config.lock()


def measured(
  workdir: Path, compute: Callable[[], Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
  """Returns what was measured for this run, measuring it the first time.

  Process 0 calls `compute` and writes `measured.npz`; every process reads it,
  so the folder has to be shared by all hosts.
  """
  path = workdir / MEASURED
  if jax.process_index() == 0 and not path.exists():
    buffer = io.BytesIO()
    np.savez(buffer, **compute())
    write(path, buffer.getvalue())
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices("measured")
  return load_measured(workdir)


def load_measured(workdir: Path) -> dict[str, np.ndarray]:
  """Reads `measured.npz`.

  Raises:
    CommandError: it is absent or damaged.
  """
  path = workdir / MEASURED
  try:
    with np.load(path, allow_pickle=False) as archive:
      return {name: archive[name] for name in archive.files}
  except (OSError, ValueError, EOFError) as error:
    raise errors.CommandError(
      f"{path} cannot be read ({error}): remove it and train again, it is "
      "measured anew"
    ) from error


def plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the config as JSON would give it back: lists for tuples."""
  return json.loads(json.dumps(config.to_dict(), default=str))


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  """Lists `name: old -> new` of every field that differs."""
  olds, news = dict(flags.flatten(old)), dict(flags.flatten(new))
  changes = []
  for name in sorted(olds.keys() | news.keys()):
    before = olds.get(name, "(absent)")
    after = news.get(name, "(absent)")
    if before != after:
      changes.append(f"{name}: {before} -> {after}")
  return changes


def environment(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Describes this start: revision, versions, devices, command and seed."""
  devices = jax.devices()
  return {
    "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "command": shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]),
    "revision": revision(),
    "seed": config.get("seed"),
    "python": platform.python_version(),
    "system": platform.platform(),
    "versions": versions(),
    "devices": {
      "kind": devices[0].device_kind,
      "platform": devices[0].platform,
      "count": len(devices),
      "processes": jax.process_count(),
    },
    "xla_flags": os.environ.get("XLA_FLAGS", ""),
  }


def versions() -> dict[str, str]:
  """Returns the installed version of each package in VERSIONS."""
  found = {}
  for package in VERSIONS:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[package] = importlib.metadata.version(package)
  return found


def revision() -> str:
  """Returns the commit of the checkout, `+` if it has changes, or ''."""
  root = Path(__file__).resolve().parents[1]
  if not (root / ".git").exists():
    return ""
  try:
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
  except (OSError, subprocess.SubprocessError):
    return ""
  return commit + ("+" if changes else "")


def write(path: Path, data: bytes) -> None:
  """Replaces a file atomically: readers see the old or the new content."""
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    with open(temporary, "wb") as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def _git(root, *words) -> str:
  return subprocess.run(
    ["git", *words],
    cwd=root,
    capture_output=True,
    text=True,
    timeout=10,
    check=True,
  ).stdout.strip()


def _json(value) -> bytes:
  return (json.dumps(value, indent=2, default=str) + "\n").encode()


def _read_json(path: Path) -> dict[str, Any]:
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except ValueError as error:
    raise errors.CommandError(
      f"{path} is damaged ({error}): restore it from a copy, or choose "
      "another --workdir"
    ) from error


def _tuples(value):
  if isinstance(value, dict):
    return {key: _tuples(inner) for key, inner in value.items()}
  if isinstance(value, list):
    return tuple(_tuples(inner) for inner in value)
  return value


def _example() -> str:
  names = flags.shipped()
  return f"{names[0]}:tiny" if names else "FILE.py"
