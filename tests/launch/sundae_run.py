"""SUNDAE over grey pixels, trained for two steps, for commands to work on."""

import numpy as np

from launch import flags, train
from tests.dctransformer import tiny


def trained(folder):
  """Train in `folder` / "run"; return that directory."""
  data = folder / "images.npz"
  np.savez(
    data,
    train_images=tiny.make_images(12, side=8),
    train_labels=np.arange(12) % 24,
    validation_images=tiny.make_images(4, seed=1, side=8),
    validation_labels=np.arange(4),
  )
  config = flags.load(
    "configs/sundae_mnist.py:tiny",
    [
      ("data.source", "arrays"),
      ("data.dir", str(data)),
      ("data.split", "train"),
      ("data.eval_split", "validation"),
      ("data.size", "(8, 8)"),
      ("model.class_drop", "0.1"),
      ("train.num_steps", "2"),
      ("train.checkpoint_every", "2"),
      ("eval.every", "0"),
      ("sample.every", "0"),
    ],
  )
  workdir = folder / "run"
  train.train(config, workdir, write_tensorboard=False)
  return workdir
