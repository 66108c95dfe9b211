"""The benchmarks of launch: counts and shapes, never a time."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks import compile_tpu, roofline, startup
from launch import flags, tasks
from tests import shared
from tests.launch import toy

TOY = os.path.abspath(toy.__file__)


@pytest.fixture
def config(monkeypatch):
  monkeypatch.setitem(tasks.ADAPTERS, "toy", "tests.launch.toy")
  return flags.load(f"{TOY}:unused")


def test_roofline_takes_the_larger_bound(config):
  found = roofline.bound(config, "NVIDIA H200", devices=2)
  # 8 rows, 4 parameters each: see Toy.train_flops.
  assert found["flops"] == 6 * 8 * 4 / 2
  assert found["compute_s"] == pytest.approx(96 / 989e12)
  assert found["bound"] == "memory"
  assert found["step_s"] == found["memory_s"] > found["compute_s"]
  assert found["examples_per_s"] == 8 / found["step_s"]


def test_every_device_of_the_roofline_has_a_peak():
  assert all(roofline.peak(kind) > 1e13 for kind in roofline.BANDWIDTH)


def test_share_of_the_bound_needs_steps(tmp_path, capsys):
  assert roofline.main([f"--workdir={tmp_path}"]) == 1
  assert "holds no run" in capsys.readouterr().err
  assert roofline.main([]) == 2


def test_startup_takes_medians():
  runs = {
    "cold": [{"wall_s": x, "compile_s": 10.0} for x in (9.0, 30.0, 12.0)],
    "warm": [{"wall_s": x, "compile_s": 2.0} for x in (6.0, 3.0, 5.0)],
  }
  found = startup.summary(runs)
  assert found["cold_wall_s"] == 12.0 and found["warm_wall_s"] == 5.0
  assert found["compile_ratio"] == 0.2


def test_unknown_slice_lists_the_kinds():
  if not compile_tpu.available():
    pytest.skip("libtpu is not installed")
  with pytest.raises(ValueError, match="choose one of v4, v5e"):
    compile_tpu.topology_devices("x9:2x2")


@pytest.mark.slow
@pytest.mark.parametrize("config", ["dct_imagenet", "dct_lsun"])
@pytest.mark.parametrize(
  "topology, accumulate", [("v5e:4x4", 4), ("v5e:16x16", 1)]
)
def test_pods_compile_and_fit(config, topology, accumulate):
  if not compile_tpu.available():
    pytest.skip("libtpu is not installed")
  done = subprocess.run(
    [
      *(sys.executable, "-m", "benchmarks.compile_tpu"),
      *(f"--config=configs/{config}.py", f"--topologies={topology}"),
      *("--config.mesh.data=-1", "--config.mesh.fsdp=16"),
      f"--config.train.accumulate={accumulate}",
    ],
    cwd=shared.ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr + done.stdout
  found = json.loads(done.stdout)
  assert found["fits"] and not found["rematerialized"]
