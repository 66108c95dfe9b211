"""The demos, small: every picture and figure appears, a second run goes on."""

import pytest

from launch import demo


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["", "--colorize"])
def test_small_demo_draws_everything(kind, tmp_path, capsys):
  command = [f"--workdir={tmp_path}", "--tiny", *([kind] if kind else [])]
  assert demo.main(command) == 0
  printed = capsys.readouterr().out
  assert "bits, of optimised JPEG's" in printed
  assert ("coloured as the label says" in printed) == bool(kind)
  assert (tmp_path / "report.html").stat().st_size > 50_000
  names = {path.stem.split("-", 1)[-1] for path in tmp_path.glob("samples/*")}
  given = "colorize" if kind else "upsample"
  assert {"samples-beside-real", f"{given}-given-results-real"} <= names
  assert {"heat_maps", "progressive"} <= names
  # Everything is there: the same command only measures again.
  assert demo.main(command) == 0
  assert capsys.readouterr().out.splitlines()[0] == printed.splitlines()[0]
