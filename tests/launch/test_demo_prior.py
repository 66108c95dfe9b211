"""The demo of priors and their comparison, everything small."""

import pytest

from launch import compare_priors, demo_prior


@pytest.mark.slow
def test_demo_ends_with_its_figures_and_a_page(tmp_path, capsys):
  assert demo_prior.main(["--tiny", f"--workdir={tmp_path}"]) == 0
  out = capsys.readouterr().out
  for figure in ("labelled colour right", "against the map", "kept exactly"):
    assert figure in out
  run = tmp_path / "class"
  assert (run / "report.html").is_file()
  names = {path.name.partition("-")[2] for path in (run / "samples").iterdir()}
  assert {"maps-and-results.png", "larger-than-trained.png"} <= names


@pytest.mark.slow
def test_comparison_prints_a_line_for_every_model(tmp_path, capsys):
  options = ["--tiny", "--num_steps=4", "--num_samples=4"]
  assert compare_priors.main([*options, f"--workdir={tmp_path}"]) == 0
  out = capsys.readouterr().out
  assert all(name in out for name in compare_priors.VARIANTS)


def test_table_shows_both_comparisons():
  line = compare_priors.Line(1000, 0.1, 50, 1.5, 20, 1.75, 0.9)
  rows = compare_priors.table({"pixelsnail": line})
  assert len(rows) == 2
  assert "1.500 (50 steps)" in rows[1] and "1.750 (20 steps)" in rows[1]
