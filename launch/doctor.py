"""Checks this machine and says how to mend what is wrong.

    python -m launch.doctor [--workdir=DIR] [--config=FILE.py]

Each line is `ok`, `warn` or `FAIL`, what was found, and after an arrow what to
do about it. The exit code is 1 if anything failed.
"""

import contextlib
import dataclasses
import fcntl
import functools
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from launch import errors, flags, setup
from training import environment

OK, WARN, FAIL = "ok", "warn", "FAIL"
TPU_LOCK = Path("/tmp/libtpu_lockfile")
# A small run writes about 1 GB (checkpoints, pictures), TFDS twice a dataset.
LITTLE_DISK_GB = 5.0
LITTLE_MEMORY_GB = 4.0
NEEDED = (
  "absl",
  "chex",
  "einops",
  "etils.epath",
  "flax",
  "jinja2",
  "matplotlib",
  "ml_collections",
  "ml_dtypes",
  "numpy",
  "optax",
  "orbax.checkpoint",
  "PIL",
  "pooch",
  "safetensors",
  "scipy",
  "tqdm",
  "yaml",
)
FOR_DATA = (
  "array_record",
  "clu",
  "importlib_resources",
  "tensorboard",
  "tensorflow",
  "tensorflow_datasets",
)
_INSTALL = "make install, or: pip install -e ."


@dataclasses.dataclass(frozen=True)
class Finding:
  """One line of the examination: verdict, what was found, and its cure."""

  verdict: str
  found: str
  cure: str = ""

  def __str__(self) -> str:
    cure = f"  ->  {self.cure}" if self.cure else ""
    return f"{self.verdict:5}{self.found}{cure}"


@errors.command
def main(argv: list[str]) -> int:
  """Prints the findings; 1 if one of them is a failure."""
  parser = flags.Parser(__doc__, "launch.doctor", config="optional")
  parser.add_argument(
    "--workdir", type=Path, default=Path(), help="where runs are to be written"
  )
  args = parser.parse_arguments(argv)
  wanted = args.config.platform if args.config else "auto"
  failed = False
  for check in (
    python,
    packages,
    versions,
    functools.partial(devices, wanted),
    functools.partial(tpu_lock, TPU_LOCK),
    memory,
    functools.partial(disk, args.workdir),
    data_folders,
    compile_cache,
  ):
    for finding in _safely(check):
      print(finding)
      failed |= finding.verdict == FAIL
  return errors.EXIT_ERROR if failed else 0


def python() -> Iterator[Finding]:
  """Checks the version of Python."""
  found = f"Python {platform.python_version()}, {platform.platform()}"
  if (3, 11) <= sys.version_info < (3, 14):
    yield Finding(OK, found)
  else:
    yield Finding(FAIL, found, "use Python 3.11, 3.12 or 3.13")


def packages(needed=NEEDED, for_data=FOR_DATA) -> Iterator[Finding]:
  """Checks that every package is there, without importing the large ones."""
  missing = [name for name in needed if not _installed(name)]
  if missing:
    yield Finding(FAIL, f"missing: {', '.join(missing)}", _INSTALL)
  missing = [name for name in for_data if not _installed(name)]
  if missing:
    yield Finding(
      WARN,
      f"missing: {', '.join(missing)}; only data.source=arrays works",
      _INSTALL,
    )


def versions() -> Iterator[Finding]:
  """Lists the versions that decide what a run computes."""
  found = environment.versions()
  yield Finding(OK, ", ".join(f"{n} {v}" for n, v in found.items()))


def devices(wanted: str = "auto") -> Iterator[Finding]:
  """Checks that JAX finds the accelerator of this machine."""
  try:
    if wanted == "cpu":
      jax.config.update("jax_platforms", "cpu")
    found = jax.devices()
  except RuntimeError as error:
    yield Finding(
      FAIL,
      f"JAX finds no device: {' '.join(str(error).split())[:200]}",
      "unset JAX_PLATFORMS, and end other processes that hold the accelerator",
    )
    return
  line = f"{len(found)} x {found[0].device_kind} ({found[0].platform})"
  idle = setup.accelerator_here()
  if found[0].platform == "cpu" and wanted not in ("auto", "cpu"):
    yield Finding(FAIL, f"{line}, but {wanted} is wanted", _accelerate(idle))
  elif found[0].platform == "cpu" and idle:
    yield Finding(WARN, f"{line}, but there is a {idle}", _accelerate(idle))
  else:
    yield Finding(OK, f"{line}, {os.cpu_count()} cores")


def tpu_lock(path: Path) -> Iterator[Finding]:
  """Finds the lock file of a TPU process that is no longer there."""
  if not path.exists():
    return
  try:
    with open(path) as file:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    yield Finding(WARN, "another process holds the TPU", f"fuser -v {path}")
  except PermissionError:
    yield Finding(FAIL, f"{path} belongs to another user", f"sudo rm -f {path}")
  else:
    yield Finding(WARN, f"stale TPU lock {path}", f"rm -f {path}")


def memory() -> Iterator[Finding]:
  """Checks the memory that is free."""
  try:
    lines = Path("/proc/meminfo").read_text().splitlines()
  except OSError:
    return
  kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
  free = kilobytes["MemAvailable"] / 2**20
  found = f"{free:.1f} of {kilobytes['MemTotal'] / 2**20:.1f} GB memory free"
  if free < LITTLE_MEMORY_GB:
    yield Finding(WARN, found, "end other programs, or use a :tiny config")
  else:
    yield Finding(OK, found)


def disk(workdir: Path) -> Iterator[Finding]:
  """Checks that runs can be written."""
  folder = workdir.absolute()
  while not folder.exists():
    folder = folder.parent
  free = shutil.disk_usage(folder).free / 1e9
  found = f"{free:.1f} GB free for runs in {folder}"
  if not os.access(folder, os.W_OK):
    yield Finding(FAIL, f"{folder} is read-only", "choose another --workdir")
  elif free < LITTLE_DISK_GB:
    yield Finding(WARN, found, "lower train.keep, or choose another --workdir")
  else:
    yield Finding(OK, found)


def data_folders() -> Iterator[Finding]:
  """Lists the datasets that are prepared."""
  default = Path.home() / "tensorflow_datasets"
  folder = Path(os.environ.get("TFDS_DATA_DIR") or default)
  if not folder.is_dir():
    yield Finding(
      OK,
      f"no datasets in {folder} yet",
      "python -m launch.prepare NAME; embedded scenes are made by themselves",
    )
    return
  names = sorted(
    entry.name
    for entry in folder.iterdir()
    if entry.is_dir() and entry.name not in ("downloads",)
  )
  yield Finding(OK, f"datasets in {folder}: {', '.join(names) or 'none'}")
  manual = folder / "downloads" / "manual"
  if manual.is_dir():
    archives = ", ".join(sorted(entry.name for entry in manual.iterdir()))
    yield Finding(OK, f"downloaded by hand in {manual}: {archives or 'none'}")


def compile_cache() -> Iterator[Finding]:
  """Checks the cache of compiled programs."""
  folder = setup.cache_dir()
  if not folder.exists():
    yield Finding(OK, f"compile cache {folder}, still empty")
    return
  if not os.access(folder, os.W_OK):
    yield Finding(
      WARN,
      f"compile cache {folder} is read-only: every start compiles",
      f"export {setup.CACHE_VARIABLE}=FOLDER",
    )
    return
  sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
  yield Finding(
    OK,
    f"compile cache {folder}: {len(sizes)} files, {sum(sizes) / 1e6:.0f} MB",
  )


def _installed(name: str) -> bool:
  with contextlib.suppress(ImportError, ValueError):
    return importlib.util.find_spec(name) is not None
  return False


def _accelerate(kind: str) -> str:
  extra = "tpu" if kind == "TPU" else "cuda"
  return f"make install EXTRA={extra}, or: pip install -e '.[{extra}]'"


def _safely(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
  """A check that breaks is a finding itself."""
  try:
    return list(check())
  except Exception as error:
    name = getattr(check, "func", check).__name__
    return [Finding(WARN, f"{name} could not be checked: {error!r}")]


if __name__ == "__main__":
  sys.exit(main())
