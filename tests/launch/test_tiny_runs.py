"""Every config that ships trains, measures itself and draws: its tiny form."""

import json

import numpy as np
import pytest
from PIL import Image

from launch import flags, runs, train
from tests import scenes_data
from tests.configs import forms, test_dct, test_prior, test_sundae, test_vqgan

NAMES = [
  name
  for family in (test_dct, test_vqgan, test_prior, test_sundae)
  for name in family.FULL
]
STEPS = 2


def _train(name, workdir):
  """Train the tiny form in process, on the small scenes; return its config."""
  config = forms.tiny(name)
  overrides = {
    **scenes_data.fields(),
    "data.num_measured": 16,
    "train.num_steps": STEPS,
    "optimizer.warmup_steps": 1,
    "train.log_every": 1,
    "train.checkpoint_every": STEPS,
    "eval.every": STEPS,
    "eval.num_examples": 16,
    "sample.every": STEPS,
    "sample.num": 1,
    "sample.batch": 1,
  }
  if config.task == "vqgan" and config.adversary.weight:
    # The discriminator plays too: alone at step 0, against at step 1.
    overrides |= {"adversary.start": 0, "adversary.warmup": 1}
  for field, value in overrides.items():
    flags.override(config, field, str(value))
  finished = train.train(config, workdir, write_tensorboard=False)
  assert finished.step == STEPS and finished.reason == "completed"
  return config


def _check(config, workdir):
  """Assert that losses, likelihood and a picture are there and finite."""
  text = (workdir / "metrics.jsonl").read_text()
  lines = [json.loads(line) for line in text.splitlines()]
  losses = [x["train/loss"] for x in lines if "train/loss" in x]
  assert len(losses) == STEPS and np.isfinite(losses).all()
  if config.task == "vqgan" and config.adversary.weight:
    played = [x["adversary/logits_made"] for x in lines if "train/loss" in x]
    assert len(played) == STEPS and np.isfinite(played).all()
  folder = workdir / "eval" / str(STEPS)
  evaluation = json.loads((folder / "eval.json").read_text())
  values = evaluation["likelihood"]
  assert values and np.isfinite([*values.values()]).all()
  with Image.open(workdir / "samples" / f"{STEPS}.png") as picture:
    assert np.asarray(picture).size
  assert runs.open_run(workdir).config.task == config.task


@pytest.mark.smoke
def test_a_dctransformer_trains_on_tensorflow_data(tmp_path):
  config = _train("dct_scenes", tmp_path / "run")
  _check(config, tmp_path / "run")
  assert config.data.source == "tfds"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_tiny_form_runs(name, tmp_path):
  config = _train(name, tmp_path / "run")
  _check(config, tmp_path / "run")
  assert config.task == forms.load(name).task


def test_every_config_that_ships_is_in_the_list():
  assert forms.files(NAMES) == forms.shipped("")
