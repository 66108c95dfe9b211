"""A prior over Open Images' codes given boxes, 256 pixels, f16.

    python -m launch.train --config=configs/prior_open_images_boxes.py \
        --config.tokenizer.weights=RUN --workdir=DIR

As prior_coco_boxes.py, with the 601 classes of Open Images; the authors kept
the most frequent of them. They told groups alone; all four flags need
`--config.condition.vocabulary=9617` or more with these classes.
"""

import ml_collections

from configs import prior_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = prior_imagenet.get_config()
  config.data.name = "open_images_v4/300k"
  config.tokenizer.like.quantizer.num_codes = 8192
  config.condition.kind = "boxes"
  config.condition.num_labels = 601
  config.condition.vocabulary = 8192
  config.condition.flags = "group"
  config.condition.least = 2
  config.condition.min_area = 1e-4
  config.model.layers, config.model.width = 32, 1280
  return prior_imagenet.variant(config, arg)
