"""Tiny configs on six pictures with given labels."""

import numpy as np

from launch import flags
from tests.dctransformer import tiny


def config(name, folder, labels=None, **overrides):
  """Return `configs/NAME.py:tiny` on pictures with these labels, or without."""
  held = {"train_images": tiny.make_images(6)}
  if labels is not None:
    held["train_labels"] = np.array(labels)
  np.savez(folder / "images.npz", **held)
  fields = {
    "data.source": "arrays",
    "data.dir": str(folder / "images.npz"),
    "data.split": "train",
    "data.eval_split": "train",
    **overrides,
  }
  return flags.load(f"configs/{name}.py:tiny", list(fields.items()))
