"""The VQGAN demo, small: it stops twice to measure, and goes on from there."""

import json
import logging

import pytest

from launch import demo_vqgan, flags, train
from training import options as options_lib


@pytest.mark.slow
def test_small_demo_measures_both_phases(tmp_path, capsys, caplog):
  command = [f"--workdir={tmp_path}", "--tiny"]
  with caplog.at_level(logging.WARNING):
    assert demo_vqgan.main(command) == 0
  assert [
    x.getMessage() for x in caplog.records if x.name == train.__name__
  ] == []
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
  assert _lines(tmp_path)[-1]["step"] == 60
  # Figures of another step are not taken for those of the phase.
  file = tmp_path / "demo" / "without.json"
  file.write_text(file.read_text().replace('"step": 40', '"step": 60'))
  assert demo_vqgan.main(command) == 0
  assert json.loads(file.read_text())["step"] == 40


def _lines(workdir):
  text = (workdir / "metrics.jsonl").read_text("utf-8")
  return [json.loads(line) for line in text.splitlines()]


def test_phases_train_one_config_and_stop_at_their_ends(tmp_path, monkeypatch):
  config = flags.load("configs/vqgan_scenes.py")
  asked = []

  def trained(config, workdir, **options):
    asked.append((config, options["stop_at"]))
    assert not options.get("accept_changes")
    return options_lib.Finished(None, options["stop_at"], "paused", {})

  monkeypatch.setattr(train, "train", trained)
  monkeypatch.setattr(demo_vqgan, "look", lambda *_: None)
  monkeypatch.setattr(demo_vqgan.setup, "start", lambda *_: None)
  monkeypatch.setattr(demo_vqgan, "judge", lambda *_: [])
  monkeypatch.setattr(demo_vqgan, "draw", lambda *_: tmp_path)
  monkeypatch.setattr(demo_vqgan.demo_frame, "end", lambda *_: None)
  assert demo_vqgan.main([f"--workdir={tmp_path}"]) == 0
  assert [step for _, step in asked] == [750, 1150]
  assert all(made == config for made, _ in asked)


def test_a_run_past_a_phase_without_its_checkpoint_is_refused(tmp_path, capsys):
  (tmp_path / "checkpoints" / "60").mkdir(parents=True)
  (tmp_path / "checkpoints" / "60" / "manifest.json").write_text("{}")
  assert demo_vqgan.main([f"--workdir={tmp_path}", "--tiny"]) == 1
  error = capsys.readouterr().err
  assert error.count("\n") == 1
  assert "is at step 60 and keeps no checkpoint of step 40" in error
  assert not (tmp_path / "demo").exists()
