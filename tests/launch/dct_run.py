"""A DCTransformer trained for six steps on arrays, for commands to work on."""

import numpy as np

from launch import flags, train
from tests.dctransformer import tiny


def trained(folder, overrides=()):
  """Train in `folder` / "run"; return that directory.

  Args:
    folder: that exists.
    overrides: more fields of the config, (name, text) each.
  """
  data = folder / "images.npz"
  rng = np.random.default_rng(0)
  np.savez(
    data,
    train_images=tiny.make_images(12),
    train_labels=rng.integers(0, 24, 12),
    validation_images=tiny.make_images(4, seed=1),
    validation_labels=rng.integers(0, 24, 4),
  )
  config = flags.load(
    "configs/dct_imagenet.py:tiny",
    [
      ("data.source", "arrays"),
      ("data.dir", str(data)),
      ("data.split", "train"),
      ("data.eval_split", "validation"),
      ("data.num_measured", "12"),
      ("model.max_chunks", "4"),
      ("train.num_steps", "6"),
      ("train.checkpoint_every", "2"),
      ("eval.every", "0"),
      ("sample.every", "0"),
      *overrides,
    ],
  )
  workdir = folder / "run"
  train.train(config, workdir, write_tensorboard=False)
  return workdir
