"""A prior over ADE20K's codes given label maps, 256 pixels, f16.

    python -m launch.train --config=configs/prior_ade20k_segmentation.py \
        --config.data.dir=ADE20K --config.tokenizer.weights=RUN \
        --config.condition.stage.weights=SEG --workdir=DIR

ADE20K is laid out as for `vqgan_ade20k_segmentation.py`, SEG a run of it, RUN
a first stage of 4,096 codes. 28 layers of width 1024, dropout 0.1. Published
FID 35.5; the paper's Table 8 says 405M parameters, which 28 layers of this
width do not reach: these are 363M.
"""

import ml_collections

from configs import _sections, prior_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = prior_imagenet.get_config()
  config.data.source = "pairs"
  config.data.name = ""
  config.data.dir = "ade20k"
  config.data.zoom = 1.1  # choice: crops that show most of the picture
  config.tokenizer.like.quantizer.num_codes = 4096
  stage = prior_imagenet.stage_config("segmentation")
  stage.data.num_labels = 151
  stage.data.label_shift = 0
  config.condition.kind = "segmentation"
  config.condition.num_labels = 151
  config.condition.label_shift = 0
  config.condition.stage.like = _sections.first_stage(stage)
  config.model.layers = 28
  config.model.dropout = 0.1
  return prior_imagenet.variant(config, arg)
