"""Label maps that a prior is given: their labels are classes it knows."""

import numpy as np
import pytest
import tensorflow as tf

from configs import _sections, prior_imagenet, vqgan_imagenet
from launch import flags, tasks


@pytest.mark.parametrize("kind", ["pool", "stage", "codes"])
def test_label_maps_hold_classes_of_the_condition(kind):
  config = flags.load("configs/prior_scenes.py:segmentation,tiny", [])
  number = "condition.num_labels 25: "
  with config.unlocked():
    if kind == "codes":
      config.data.source = "codes"
    if kind == "stage":  # of fewer classes: they count
      stage = prior_imagenet.stage_config("segmentation")
      vqgan_imagenet.shrink(stage)
      stage.data.num_labels, number = 20, "the 20 of condition.stage: "
      config.condition.stage.like = _sections.first_stage(stage)
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
