"""A prior over COCO-Stuff's codes given label maps, 256 pixels, f16.

    python -m launch.train --config=configs/prior_coco_segmentation.py \
        --config.data.dir=COCO --config.tokenizer.weights=RUN \
        --config.condition.stage.weights=SEG --workdir=DIR

COCO is laid out as for `vqgan_coco_segmentation.py`, SEG a run of it, RUN a
first stage of 8,192 codes. 32 layers of width 1280, 651M parameters; published
FID 20.4 (Esser et al. 2021, sec. 4.2).
"""

import ml_collections

from configs import _sections, prior_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = prior_imagenet.get_config()
  config.data.source = "pairs"
  config.data.name = ""
  config.data.dir = "coco"
  config.data.zoom = 1.1  # choice: crops that show most of the picture
  config.tokenizer.like.quantizer.num_codes = 8192
  stage = prior_imagenet.stage_config("segmentation")
  stage.data.num_labels = 183
  stage.data.label_shift = 1
  config.condition.kind = "segmentation"
  config.condition.num_labels = 183
  config.condition.label_shift = 1
  config.condition.stage.like = _sections.first_stage(stage)
  config.model.layers, config.model.width = 32, 1280
  return prior_imagenet.variant(config, arg)
