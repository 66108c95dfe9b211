"""The wheel works by itself: configs, templates and scripts are in it."""

import os
import subprocess
import sys
import zipfile

import pytest

from tests import shared


@pytest.mark.slow
def test_an_installed_wheel_runs_outside_the_checkout(tmp_path):
  source = tmp_path / "source"
  subprocess.run(
    ["git", "clone", "--quiet", "--depth=1", f"file://{shared.ROOT}", source],
    check=True,
  )
  subprocess.run(
    [
      *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
      *("--no-build-isolation", "--wheel-dir", tmp_path, source),
    ],
    check=True,
  )
  (wheel,) = tmp_path.glob("tessera_images-*.whl")
  site = tmp_path / "site"
  with zipfile.ZipFile(wheel) as archive:
    names = archive.namelist()
    archive.extractall(site)
  assert "launch/report.html" in names and "launch/tpu_pod.sh" in names
  assert "weights/trained/dct_scenes.safetensors" in names
  assert not any(name.startswith("tests/") for name in names)
  elsewhere = tmp_path / "elsewhere"
  elsewhere.mkdir()
  config = "--config=configs/dct_scenes.py:tiny"
  for command in (
    ["launch.train", config, "--dry_run"],
    ["launch.doctor"],
  ):
    done = subprocess.run(
      [sys.executable, "-m", *command],
      cwd=elsewhere,
      env={**os.environ, "PYTHONPATH": str(site)},
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr
