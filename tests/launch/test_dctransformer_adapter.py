"""The adapter of DCTransformer: what it asks of memory."""

import numpy as np
import pytest

from launch import datasets, flags
from launch.adapters import dctransformer
from tests.dctransformer import tiny


def _config(folder, labels=None, **overrides):
  """A config on six pictures with these labels, or without any."""
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
  return flags.load("configs/dct_imagenet.py:tiny", list(fields.items()))


@pytest.mark.parametrize("rows, most", [("4", 128), ("96", 50)])
def test_batches_to_measure_stay_below_256_mib(
  tmp_path, monkeypatch, rows, most
):
  fields = {
    "model.rows": rows,
    "model.cols": rows,
    "data.resize": "32",
    "eval.batch_size": "128",
  }
  config = _config(tmp_path, **fields)
  asked = []
  monkeypatch.setattr(
    datasets.pipeline(config),
    "eval_batches",
    lambda *_, batch_size, limit: asked.append(batch_size),
  )
  source = datasets.open_source(config, "train")
  datasets.measure_batches(config, dctransformer, source, 6)
  assert asked == [most]
  total = dctransformer.make_codec(config).max_total
  assert asked[0] * 6 * total <= 2**28
