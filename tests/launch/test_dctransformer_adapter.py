"""The adapter of DCTransformer: what it refuses, what it asks of memory."""

import numpy as np
import pytest

from launch import datasets, errors, flags, train
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


@pytest.mark.parametrize(
  "labels, said", [([0, 1, 2, 3, 4, 24], "25 classes"), (None, "no labels")]
)
def test_labels_that_are_no_classes_are_refused(tmp_path, labels, said):
  workdir = tmp_path / "run"
  with pytest.raises(errors.CommandError) as error:
    train.train(_config(tmp_path, labels), workdir, write_tensorboard=False)
  message = str(error.value)
  assert said in message and "model.num_classes is 24" in message
  assert "\n" not in message and not workdir.exists()


@pytest.mark.parametrize("num_classes, labels", [(24, [3] * 6), (0, None)])
def test_labels_that_fit_pass(tmp_path, num_classes, labels):
  fields = {"model.num_classes": str(num_classes)}
  config = _config(tmp_path, labels, **fields)
  source = datasets.open_source(config, "train")
  assert dctransformer.check_source(config, source) is None
  with config.unlocked():  # too few classes for the labels, or any for none
    config.model.num_classes = 2
  with pytest.raises(errors.CommandError, match=r"model\.num_classes is 2"):
    dctransformer.check_source(config, source)


def test_fewer_classes_of_a_dataset_with_names_are_refused(tmp_path):
  config = _config(tmp_path, [3] * 6)
  source = datasets.open_source(config, "train")
  with config.unlocked():
    config.data.source = "folder"
  with pytest.raises(errors.CommandError, match="has 4 classes"):
    dctransformer.check_source(config, source)


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
