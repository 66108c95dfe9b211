"""What a run has to say about where and with what it ran (env.json)."""

import datetime
import importlib.metadata
import pathlib
import platform
import socket
import subprocess
import sys
from typing import Any

import jax

_PACKAGES = (
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "numpy",
  "tensorflow",
  "tensorflow-cpu",
  "tensorflow-datasets",
  "tessera-images",
)


def describe(**extra: Any) -> dict[str, Any]:
  """Describe revision, versions, devices and command; plain values.

  Args:
    **extra: further fields (seeds, ...).
  """
  devices = jax.devices()
  return {
    "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "command": list(sys.argv),
    "revision": revision(),
    "python": platform.python_version(),
    "system": platform.platform(),
    "host": socket.gethostname(),
    "versions": versions(),
    "devices": {
      "kind": devices[0].device_kind,
      "count": len(devices),
      "processes": jax.process_count(),
    },
    **extra,
  }


def versions() -> dict[str, str]:
  """List the versions of the packages that decide a result."""
  found = {}
  for name in _PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def revision() -> str | None:
  """The git commit of this code, "-dirty" if changed; None outside git."""
  root = pathlib.Path(__file__).resolve().parent.parent
  if not (root / ".git").exists():
    return None
  try:
    commit = subprocess.run(
      ["git", "rev-parse", "HEAD"],
      cwd=root,
      capture_output=True,
      text=True,
      timeout=10,
      check=True,
    ).stdout.strip()
    changed = subprocess.run(
      ["git", "status", "--porcelain", "--untracked-files=no"],
      cwd=root,
      capture_output=True,
      text=True,
      timeout=10,
      check=True,
    ).stdout.strip()
  except (OSError, subprocess.SubprocessError):
    return None
  return commit + ("-dirty" if changed else "")
