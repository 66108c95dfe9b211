"""Label maps that a prior is given: their labels are classes it knows."""

import numpy as np
import pytest
import tensorflow as tf

from configs import _sections, prior_imagenet, vqgan_imagenet
from launch import flags, tasks


def _stage(target, **data):
  """Return the config of a tiny first stage."""
  config = prior_imagenet.stage_config(target)
  vqgan_imagenet.shrink(config)
  config.data.update(data)
  return _sections.first_stage(config)


@pytest.mark.parametrize("kind", ["pool", "stage", "codes"])
def test_label_maps_hold_classes_of_the_condition(kind):
  config = flags.load("configs/prior_scenes.py:segmentation,tiny", [])
  number = "condition.num_labels 25: "
  with config.unlocked():
    if kind == "codes":
      config.data.source = "codes"
    if kind == "stage":
      config.condition.num_labels = 20
      config.condition.stage.like = _stage("segmentation", num_labels=20)
      number = "the 20 of condition.stage: "
  adapter = tasks.get("prior")
  measured = adapter.assumed(config)
  record = {
    "codes": np.zeros((8, 8), np.uint16),
    "image": np.zeros((32, 32, 3), np.uint8),
    "segmentation": np.full((32, 32), 19, np.uint8),
    "label": np.int32(0),
    "example_id": np.int32(6),
  }
  for use in ("train", "eval"):
    encode = adapter.make_array_encode(config, measured, use)
    assert (encode(record, (0, 1))["segmentation"] == 19).all()
    wrong = {**record, "segmentation": np.full((32, 32), 200, np.uint8)}
    with pytest.raises(ValueError, match="6 holds class 200, of " + number):
      encode(wrong, (0, 1))
    tensors = {name: tf.constant(x) for name, x in wrong.items()}
    encode = adapter.make_encode(config, measured, use)
    with pytest.raises(tf.errors.InvalidArgumentError, match=number):
      encode(tensors, tf.constant([0, 1]))


@pytest.mark.parametrize(
  ("form", "stage", "said"),
  [
    (
      "segmentation",
      ("segmentation", 20),
      "condition.num_labels 25 must be 20, the classes of its first stage",
    ),
    ("segmentation", ("image", 0), "needs a first stage of label maps"),
    ("segmentation", ("depth", 0), "condition.stage reads depth"),
    ("depth", ("segmentation", 25), "first stage of depth or pictures, and"),
    ("lowres", ("depth", 0), "first stage of pictures, and that of .* depth"),
  ],
)
def test_first_stages_of_something_else_are_refused(form, stage, said):
  target, num_labels = stage
  config = flags.load(f"configs/prior_scenes.py:{form},tiny", [])
  with config.unlocked():
    config.condition.stage.like = _stage(target, num_labels=num_labels)
  adapter = tasks.get("prior")
  with pytest.raises(ValueError, match=said):
    adapter.make_task(config, adapter.assumed(config))
