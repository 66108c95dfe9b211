"""The SUNDAE demo and comparison, small: everything appears, and goes on."""

import numpy as np
import pytest

from launch import (
  compare_sundae,
  demo_figures,
  demo_sundae,
  errors,
  flags,
  runs,
)
from training import rundir


@pytest.mark.slow
def test_small_demo_draws_everything(tmp_path, capsys):
  command = [f"--workdir={tmp_path}", "--tiny"]
  assert demo_sundae.main(command) == 0
  printed = capsys.readouterr().out
  kept = next(x for x in printed.splitlines() if x.startswith("codes kept"))
  assert "MISSED" not in kept
  assert "inpainted halves, colour right" in printed
  page = (tmp_path / "run" / "report.html").read_text()
  for said in (
    "hidden objects inpainted, colour right",
    "the same without the class",
    "the hole greyed before it is encoded (share): the control",
  ):
    assert said in printed and said in page
  run = tmp_path / "run"
  assert len(page) > 50_000
  assert (run / "demo" / "denoising.gif").is_file()
  names = {path.stem.split("-", 1)[-1] for path in run.glob("samples/*")}
  assert {"samples-beside-real", "given-results-real", "denoising"} <= names


@pytest.mark.slow
def test_small_comparison_lists_what_was_asked_for(tmp_path, capsys):
  command = [f"--workdir={tmp_path}", "--tiny", "--seeds=1", "--num_steps=4"]
  variants = "--variants=ours,reference,1 unroll twice,autoregressive"
  command += ["--num_samples=8", variants]
  assert compare_sundae.main(command) == 0
  printed = capsys.readouterr().out
  for name in ("ours", "reference", "autoregressive", "20 and argmax"):
    assert any(line.startswith(name) for line in printed.splitlines()), name
  assert (tmp_path / "tables.txt").read_text() == printed
  steps = lambda name: runs.load_config(tmp_path / name).train.num_steps
  assert (steps("ours-0"), steps("1-unroll-twice-0")) == (4, 8)


def test_only_hidden_objects_are_counted_told_and_not_told():
  blank = np.full((5, 8, 8, 3), 127, np.uint8)
  red = (200, 30, 30)
  blank[0, 2:6, 5:8] = red  # in the hole
  blank[1, 2:6, 1:4] = red
  blank[2, 2:6, 3:7] = red  # a part of it is kept
  blank[3, 0:8, 4:8] = red
  labels, asked = np.arange(5), []

  def inpaint(pictures, **options):
    asked.append((pictures.labels.tolist(), options))
    return pictures.images, pictures.images[:, None], 1.0

  pictures = demo_figures.Pictures(blank, labels)
  told, null, greyed = demo_sundae.of_hidden(pictures, 2, inpaint)
  assert [x for x, _ in asked] == [[0, 3]] * 3
  assert [options for _, options in asked] == [
    {},
    {"told": False},
    {"told": False, "greyed": True},
  ]
  assert told.value == null.value == greyed.value == 1
  assert told.blind is not None and greyed.note.startswith("the control")
  assert (
    demo_sundae.of_hidden(
      demo_figures.Pictures(blank[1:3], labels[1:3]), 2, inpaint
    )
    == []
  )


def test_unknown_variant_is_refused(tmp_path, capsys):
  command = [f"--workdir={tmp_path}", "--variants=ours,referense"]
  assert compare_sundae.main(command) == 2
  assert "Did you mean reference" in capsys.readouterr().err


def test_runs_of_other_steps_are_not_taken_for_those_asked_for(tmp_path):
  config = flags.load("configs/sundae_scenes.py:tiny")
  rundir.write_json(tmp_path / "config.json", config.to_dict())
  (tmp_path / "scores-8.json").write_text("{}")
  other = compare_sundae.changed(config, {"train.num_steps": 7})
  with pytest.raises(errors.CommandError, match="run of 60 steps, not of 7"):
    compare_sundae.run_variant(other, tmp_path, 8)
