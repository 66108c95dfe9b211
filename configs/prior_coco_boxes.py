"""A prior over COCO's codes given boxes, 256 pixels, f16.

    python -m launch.train --config=configs/prior_coco_boxes.py \
        --config.tokenizer.weights=RUN --workdir=DIR

Scene layouts: up to 30 objects, a box each, and the crop; `:points` tells the
centres of the boxes alone; tiny: `:tiny` or `:points,tiny`. Crops that show
fewer than two objects are not learnt from, and of more than 30 objects 30 are
drawn (the authors leave out pictures of fewer than two and of more than 30).
RUN is a first stage of 8,192 codes. 32 layers of width 1280, 651M parameters
(Esser et al. 2021, Table 8).
"""

import ml_collections

from configs import prior_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "points", "tiny", both with a comma, or ""."""
  parts = [part for part in arg.split(",") if part]
  points = bool(parts) and parts[0] == "points"
  config = prior_imagenet.get_config()
  config.data.name = "coco/2017"
  config.tokenizer.like.quantizer.num_codes = 8192
  config.condition.kind = "boxes"
  config.condition.num_labels = 80
  config.condition.vocabulary = 8192
  config.condition.flags = "group"
  config.condition.least = 2
  config.model.layers, config.model.width = 32, 1280
  config.condition.points = points
  return prior_imagenet.variant(config, ",".join(parts[points:]))
