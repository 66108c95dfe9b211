"""What commands share that compare variants of a config."""

import json

import pytest

from launch import flags, train, variants
from training import options


def test_variants_are_chosen_by_name_and_once():
  parser = flags.Parser("", "launch.x")
  known = ["ours", "reference"]
  assert variants.chosen(parser, "reference,ours,ours", known) == known[::-1]
  with pytest.raises(flags.UsageError, match="Did you mean reference"):
    variants.chosen(parser, "ours,referense", known)


def test_a_changed_config_shows_nothing_and_leaves_the_first_alone():
  config = flags.load("configs/vqgan_scenes.py:tiny")
  made = variants.changed(config, {"seed": 3, "optimizer.peak": 0.5})
  assert (made.seed, made.optimizer.peak) == (3, 0.5)
  assert made.eval.every == made.sample.every == 0
  assert config.seed == 0 and config.eval.every == 30
  with pytest.raises(AttributeError, match="locked"):
    made.other = 1
  with pytest.raises(KeyError):
    variants.changed(config, {"optimizer.peek": 0.5})


@pytest.mark.parametrize("reason", ["completed", "SIGTERM"])
def test_only_a_completed_run_is_trained(reason, tmp_path, monkeypatch, capsys):
  finished = options.Finished(None, 7, reason, {})
  monkeypatch.setattr(train, "train", lambda *args, **more: finished)
  whole = reason == "completed"
  assert variants.trained(None, tmp_path) == whole
  said = "" if whole else "SIGTERM: the same command goes on\n"
  assert capsys.readouterr().out == said


def test_step_seconds_are_the_median_of_the_log(tmp_path):
  lines = [{"perf/step_s": x} for x in (9.0, 0.2, None, 0.3)]
  text = "".join(json.dumps({"step": 1, **x}) + "\n" for x in [*lines, {}])
  (tmp_path / "metrics.jsonl").write_text(text + '{"step": 2, "perf')
  assert variants.step_seconds(tmp_path) == 0.3


def test_a_range_stands_beside_the_mean_of_several():
  assert variants.spread([0.25]) == "0.250"
  assert variants.spread([1, 4, 4], 1) == "3.0 (1.0-4.0)"
