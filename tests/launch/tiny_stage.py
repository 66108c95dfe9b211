"""A first stage with random parameters, exported: 16 codes, f = 2."""

import numpy as np

from configs import vqgan_scenes
from launch import first_stages
from training import trees


def config():
  """Returns the config of the first stage."""
  made = vqgan_scenes.get_config("tiny")
  made.model.multipliers, made.model.num_blocks = (1, 1), 0
  made.model.channels = made.model.z_channels = 4
  made.quantizer.num_codes, made.quantizer.width = 16, 3
  return made


def write(folder, seed=0, made=None):
  """Writes the weights, of a config like `config()`; returns their path."""
  reduced = first_stages.reduced(made or config())
  random = np.random.RandomState(seed)
  shapes = first_stages.blank_params(first_stages.make_tokenizer(reduced))
  named = {
    name: random.normal(0, 0.3, leaf.shape).astype(np.float32)
    for name, leaf in trees.flatten(shapes).items()
  }
  stage = first_stages.FirstStage(reduced, named, "small")
  first_stages.save(stage, folder / "small")
  return str(folder / "small")
