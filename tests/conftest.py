"""Settings of every test: eight CPU devices and a cache of compiled programs.

They are environment variables, set before JAX is imported, so that the
processes which tests start inherit them.
"""

import hashlib
import os
import platform
import time
from pathlib import Path

import pytest

_CACHE_DAYS = 30


def _cache_dir() -> Path:
  """One folder a user and kind of processor: programs hold native code."""
  try:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    features = next(x for x in lines if x.startswith(("flags", "Features")))
  except (OSError, StopIteration):
    features = platform.processor()
  kind = hashlib.sha256(features.encode()).hexdigest()[:8]
  root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
  return Path(root) / "tessera" / f"tests-{platform.machine()}-{kind}"


def _forget_old(folder: Path) -> None:
  """Removes programs that were compiled long ago; others may do the same."""
  oldest = time.time() - _CACHE_DAYS * 24 * 3600
  for path in folder.glob("*"):
    try:
      if path.stat().st_mtime < oldest:
        path.unlink()
    except OSError:
      continue


def _set_environment() -> None:
  flags = os.environ.get("XLA_FLAGS", "")
  if "xla_force_host_platform_device_count" not in flags:
    flags += " --xla_force_host_platform_device_count=8"
  if "collective_call_terminate" not in flags:
    # Eight devices share the cores: where these are busy, one may wait for the
    # others for longer than the 40 seconds after which XLA ends the process.
    flags += " --xla_cpu_collective_call_terminate_timeout_seconds=900"
  os.environ["XLA_FLAGS"] = flags.strip()
  # XLA's threads: as many as devices, or this. One that waits for the others
  # in a collective keeps its own, and a step with several may leave none.
  os.environ.setdefault("NPROC", "32")
  os.environ["JAX_PLATFORMS"] = "cpu"
  cache = _cache_dir()
  cache.mkdir(parents=True, exist_ok=True)
  if "PYTEST_XDIST_WORKER" not in os.environ:
    _forget_old(cache)
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
  os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
  os.environ.setdefault("MPLBACKEND", "Agg")


_set_environment()


def pytest_addoption(parser):
  """Adds --per_file, the size of the smoke run."""
  parser.addoption(
    "--per_file",
    type=int,
    default=0,
    help="run only so many tests of each file: those marked smoke, then the "
    "first (0 = all)",
  )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
  """Keeps `--per_file` tests of each file, of those that -m and -k leave."""
  limit = config.getoption("--per_file")
  if not limit:
    return
  seen, chosen = {}, set()
  for item in sorted(items, key=lambda x: not x.get_closest_marker("smoke")):
    seen[item.path] = seen.get(item.path, 0) + 1
    if seen[item.path] <= limit:
      chosen.add(item)
  kept = [item for item in items if item in chosen]
  left = [item for item in items if item not in chosen]
  config.hook.pytest_deselected(items=left)
  items[:] = kept
