"""The VQGAN demo, small: it stops twice to measure, and goes on from there."""

import json

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
