"""The VQGAN demo, small: it stops twice to measure, and goes on from there."""

import json

import numpy as np
import pytest

from launch import demo_vqgan


@pytest.mark.slow
def test_small_demo_measures_both_phases(tmp_path, capsys):
  command = [f"--workdir={tmp_path}", "--tiny"]
  assert demo_vqgan.main(command) == 0
  printed = capsys.readouterr().out
  assert "PSNR lost to the discriminator" in printed
  assert (tmp_path / "samples" / "60-real-without-with.png").is_file()
  assert (tmp_path / "report.html").stat().st_size > 30_000
  steps = [
    json.loads((tmp_path / "demo" / f"{phase}.json").read_text())["step"]
    for phase in ("without", "with")
  ]
  assert steps == [40, 60]
  # Everything is there: the same command only shows it again.
  assert demo_vqgan.main(command) == 0
  assert capsys.readouterr().out.splitlines()[:4] == printed.splitlines()[:4]


def test_edges_have_energy():
  flat = np.full((2, 8, 8, 3), 90, np.uint8)
  assert demo_vqgan.laplacian_energy(flat) < 1e-6
  edge = flat.copy()
  edge[:, :, 4:] = 190
  blurred = edge.copy()
  blurred[:, :, 3:5] = 140
  sharp, soft = map(demo_vqgan.laplacian_energy, (edge, blurred))
  # A step of 100 in luma: 100^2 in two of six columns, or 50^2 in four.
  assert sharp == pytest.approx(100**2 * 2 / 6, rel=1e-3)
  assert soft == pytest.approx(50**2 * 4 / 6, rel=1e-3)
