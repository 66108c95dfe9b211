"""What every command does first: platform, processes, compile cache, log."""

import importlib.util
import logging
import os
import sys
from pathlib import Path

import jax

from launch import errors

PLATFORMS = ("auto", "accelerator", "cpu", "gpu", "tpu")
CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
# Set by launch/tpu_pod.sh: this machine is one host of a pod.
POD_VARIABLE = "TESSERA_POD"

# Whose news the terminal shows.
_PACKAGES = (
  *("data", "dctransformer", "evaluation", "launch", "sundae", "training"),
  *("vqgan", "weights", "__main__"),
)
_EXTRAS = {"gpu": "cuda", "tpu": "tpu", "accelerator": "cuda"}
_logger = logging.getLogger(__name__)


def start(platform: str = "auto") -> None:
  """Prepares JAX: call it once, before anything else uses JAX.

  Joins the other processes of a multi-host job, points JAX at the compile
  cache, and checks that the platform asked for is there.

  Args:
    platform: one of PLATFORMS, `config.platform`.
  Raises:
    ValueError: an unknown platform.
    CommandError: an accelerator was asked for and none was found.
  """
  if platform not in PLATFORMS:
    raise ValueError(
      f"platform {platform!r} must be one of {', '.join(PLATFORMS)}: "
      "set config.platform"
    )
  if platform == "cpu":
    jax.config.update("jax_platforms", "cpu")
  compile_cache()
  distributed(platform)
  check_platform(platform)


def compile_cache() -> Path | None:
  """Points JAX at its cache of compiled programs and returns the folder.

  $JAX_COMPILATION_CACHE_DIR, else `tessera/jax` in the user's cache folder;
  every program is kept, however quickly it compiled. None if the folder cannot
  be written: then nothing is cached.
  """
  folder = cache_dir()
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    _logger.warning(
      "no compile cache: %s (set %s to a folder)", error, CACHE_VARIABLE
    )
    return None
  jax.config.update("jax_compilation_cache_dir", str(folder))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
  return folder


def cache_dir() -> Path:
  """Returns the folder of the compile cache, without making it."""
  given = os.environ.get(CACHE_VARIABLE)
  if given:
    return Path(given)
  root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
  return Path(root) / "tessera" / "jax"


def distributed(platform: str = "auto") -> bool:
  """Joins the job's other processes; returns whether there are any.

  Found, in this order: JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
  JAX_PROCESS_ID; a SLURM step of several tasks; a TPU pod. A single machine
  opens no connection.
  """
  arguments = processes(os.environ, platform)
  if arguments is None:
    return False
  jax.distributed.initialize(**arguments)
  _logger.info(
    "process %d of %d, %d of %d devices here",
    jax.process_index(),
    jax.process_count(),
    jax.local_device_count(),
    jax.device_count(),
  )
  return True


def processes(environment, platform: str = "auto") -> dict | None:
  """Reads `jax.distributed.initialize`'s arguments off the environment.

  None on a single machine; {} where JAX finds the others by itself.
  """
  address = environment.get("JAX_COORDINATOR_ADDRESS")
  if address:
    try:
      return {
        "coordinator_address": address,
        "num_processes": int(environment["JAX_NUM_PROCESSES"]),
        "process_id": int(environment["JAX_PROCESS_ID"]),
      }
    except (KeyError, ValueError) as error:
      raise ValueError(
        f"JAX_COORDINATOR_ADDRESS={address} needs JAX_NUM_PROCESSES and "
        "JAX_PROCESS_ID, both numbers: set them on every process"
      ) from error
  if int(environment.get("SLURM_STEP_NUM_TASKS") or 1) > 1:
    return {}
  if platform == "cpu":
    return None
  hosts = environment.get("TPU_WORKER_HOSTNAMES", "")
  if environment.get(POD_VARIABLE) or len(hosts.split(",")) > 1:
    return {}
  return None


def check_platform(platform: str) -> None:
  """Stops unless JAX found what was asked for; warns of an idle accelerator."""
  found = jax.default_backend()
  wanted = {"accelerator": ("gpu", "tpu")}.get(platform, (platform,))
  if platform != "auto" and found not in wanted:
    raise errors.CommandError(
      f"platform {platform} was asked for, but JAX found only {found}: install "
      f"the [{_EXTRAS.get(platform, 'cuda')}] extra, or set "
      "--config.platform=cpu",
      "python -m launch.doctor",
    )
  idle = accelerator_here()
  if platform == "auto" and found == "cpu" and idle:
    _logger.warning(
      "this machine has a %s but JAX found only the CPU; "
      "`python -m launch.doctor` says how to use it",
      idle,
    )


def accelerator_here() -> str:
  """Names the accelerator whose device file exists: GPU, TPU or nothing."""
  if Path("/dev/nvidia0").exists() or Path("/dev/kfd").exists():
    return "GPU"
  if any(Path("/dev").glob("accel[0-9]*")) or Path("/dev/vfio/0").exists():
    return "TPU"
  return ""


def tensorflow_available() -> bool:
  """Says whether TensorFlow could be imported, without importing it."""
  return importlib.util.find_spec("tensorflow") is not None


def log_to_terminal(quiet: bool = False) -> None:
  """Sends the log of process 0 to stderr; `quiet` shows warnings only.

  The run directory's log.txt hears of everything, see `training.rundir`.
  """
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  root = logging.getLogger()
  for handler in list(root.handlers):
    root.removeHandler(handler)
    handler.close()
  root.setLevel(logging.INFO)
  if jax.process_index() == 0:
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    # Libraries reset their levels when they are imported: a filter lasts.
    terminal.addFilter(_is_ours)
    terminal.setLevel(logging.WARNING if quiet else logging.INFO)
    root.addHandler(terminal)


def _is_ours(record: logging.LogRecord) -> bool:
  """Lets our packages' news through, and everybody's warnings."""
  package = record.name.split(".")[0]
  return record.levelno >= logging.WARNING or package in _PACKAGES
