import json
import logging
import os
import subprocess
import sys

import pytest

from launch import errors, setup
from tests import shared


@pytest.mark.parametrize("platform", ["accelerator", "gpu", "tpu"])
def test_absent_accelerator_stops(platform):
  with pytest.raises(errors.CommandError, match="found only cpu") as caught:
    setup.check_platform(platform)
  assert "launch.doctor" in caught.value.command


def test_cpu_and_auto_run_anywhere():
  setup.check_platform("cpu")
  setup.check_platform("auto")


def test_idle_accelerator_is_mentioned(monkeypatch, caplog):
  monkeypatch.setattr(setup, "accelerator_here", lambda: "GPU")
  setup.check_platform("auto")
  assert "has a GPU but JAX found only the CPU" in caplog.text


def test_unknown_platform_lists_the_choices():
  with pytest.raises(ValueError, match="must be one of auto"):
    setup.start("cuda")


@pytest.mark.parametrize(
  "environment, platform, expected",
  [
    ({}, "auto", None),
    ({"SLURM_NTASKS": "8"}, "auto", None),
    ({"SLURM_STEP_NUM_TASKS": "1"}, "auto", None),
    ({"SLURM_STEP_NUM_TASKS": "8"}, "auto", {}),
    ({"TPU_WORKER_HOSTNAMES": "localhost"}, "auto", None),
    ({"TPU_WORKER_HOSTNAMES": "a,b"}, "tpu", {}),
    ({"TESSERA_POD": "1"}, "tpu", {}),
    ({"TESSERA_POD": "1"}, "cpu", None),
    (
      {
        "JAX_COORDINATOR_ADDRESS": "a:1",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": "1",
      },
      "cpu",
      {"coordinator_address": "a:1", "num_processes": 2, "process_id": 1},
    ),
  ],
)
def test_processes_are_found(environment, platform, expected):
  assert setup.processes(environment, platform) == expected


def test_half_an_address_is_an_error():
  with pytest.raises(ValueError, match="JAX_PROCESS_ID"):
    setup.processes({"JAX_COORDINATOR_ADDRESS": "a:1"})


_START = """
import json, logging, jax
from launch import setup
setup.start("cpu")
print(json.dumps([
  jax.config.jax_compilation_cache_dir,
  jax.config.jax_persistent_cache_min_compile_time_secs,
  jax.default_backend(),
]))
"""


def test_start_uses_the_cache_folder(tmp_path):
  environment = {
    key: value for key, value in os.environ.items() if "CACHE" not in key
  }
  environment["XDG_CACHE_HOME"] = str(tmp_path)
  done = subprocess.run(
    [sys.executable, "-c", _START],
    cwd=shared.ROOT,
    env=environment,
    capture_output=True,
    text=True,
    check=True,
  )
  folder, minimum, backend = json.loads(done.stdout)
  assert folder == str(tmp_path / "tessera" / "jax")
  assert (minimum, backend) == (0, "cpu")


@pytest.fixture
def restored_logging():
  root = logging.getLogger()
  handlers, level = list(root.handlers), root.level
  root.handlers = []
  yield
  for handler in root.handlers:
    handler.close()
  root.handlers, root.level = handlers, level


def test_log_shows_ours_and_not_the_libraries(restored_logging, capsys):
  setup.log_to_terminal()
  setup.log_to_terminal()
  logging.getLogger("training.loop").info("step %d", 3)
  logging.getLogger("jax").info("chatter")
  assert capsys.readouterr().err == "step 3\n"


def test_quiet_log_keeps_warnings(restored_logging, capsys):
  setup.log_to_terminal(quiet=True)
  logging.getLogger("launch").info("news")
  logging.getLogger("launch").warning("trouble")
  assert capsys.readouterr().err == "trouble\n"
