"""A first stage of 16 codes, f = 2: its config, pictures, random weights."""

import numpy as np

from configs import vqgan_scenes
from launch import first_stages, tokenize
from training import trees

# Of a run of configs/vqgan_scenes.py:tiny that takes seconds.
FIELDS = {
  "data.source": "arrays",
  "data.split": "train",
  "data.eval_split": "validation",
  "data.num_measured": "16",
  "data.size": "(16, 16)",
  "model.channels": "4",
  "model.z_channels": "4",
  "model.multipliers": "(1, 1)",
  "model.num_blocks": "0",
  "quantizer.num_codes": "16",
  "quantizer.width": "3",
  "adversary.channels": "4",
}

# Of pictures of noise, where they are tokenized.
NOISE_SIZE = (8, 12)


def write_smooth(path):
  """Write smooth pictures, so that codes differ and no distance is a tie."""
  random = np.random.RandomState(0)
  coarse = random.randint(0, 256, (24, 4, 4, 3)).astype(np.uint8)
  images = coarse.repeat(4, 1).repeat(4, 2)
  np.savez(path, train_images=images[:16], validation_images=images[16:])
  return path


def write_noise(path, size, labelled=False):
  """Write 21 pictures of noise to train on and 3 others; return the path."""
  random = np.random.RandomState(0)
  held = {}
  for split, num in (("train", 21), ("validation", 3)):
    pictures = random.randint(0, 256, (num, *size, 3), np.uint8)
    held[f"{split}_images"] = pictures
    if labelled:
      held[f"{split}_labels"] = np.arange(num) % 3
  np.savez(path, **held)
  return str(path)


def tokenize_noise(weights, images, out, *options):
  """Run launch.tokenize on pictures of NOISE_SIZE; return its exit status."""
  return tokenize.main(
    [
      f"--weights={weights}",
      "--config=configs/vqgan_scenes.py",
      "--config.data.source=arrays",
      f"--config.data.size={NOISE_SIZE}",
      f"--config.data.dir={images}",
      f"--out={out}",
      "--shard=8",
      "--batch=1",
      *options,
    ]
  )


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
