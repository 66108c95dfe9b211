"""A prior over S-FLCKR's codes given label maps, 256 pixels, f16.

    python -m launch.train --config=configs/prior_sflckr_segmentation.py \
        --config.data.dir=SFLCKR --config.tokenizer.weights=RUN \
        --config.condition.stage.weights=SEG --workdir=DIR

SFLCKR holds `train` and `validation`, each with `images` and `segmentation`
(182 classes of a DeepLab on COCO-Stuff). Crops of the pictures' own size, from
which `launch.sample --size=512x1024 --condition=MAP.png` draws landscapes by a
sliding window. 24 layers of width 1024, 307M parameters; published 4.49 nats a
code, PixelSNAIL 4.64 (Esser et al. 2021, Table 1).
"""

import ml_collections

from configs import _sections, prior_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = prior_imagenet.get_config()
  config.data.source = "pairs"
  config.data.name = ""
  config.data.dir = "sflckr"
  config.data.zoom = 0.0
  stage = prior_imagenet.stage_config("segmentation")
  stage.data.num_labels = 182
  stage.data.label_shift = 0
  config.condition.kind = "segmentation"
  config.condition.num_labels = 182
  config.condition.label_shift = 0
  config.condition.stage.like = _sections.first_stage(stage)
  return prior_imagenet.variant(config, arg)
