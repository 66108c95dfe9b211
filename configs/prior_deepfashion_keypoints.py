"""A prior over DeepFashion's codes given poses, 272 x 160 pixels, f16.

    python -m launch.train --config=configs/prior_deepfashion_keypoints.py \
        --config.data.dir=FASHION --config.tokenizer.weights=RUN \
        --config.condition.stage.weights=POSE --workdir=DIR

FASHION holds `train` and `validation`, each with `images` and `keypoints`: for
every picture a JSON list of figures of 18 [row, column, found], in 0..1, in
OpenPose's order, of any detector. They are drawn as stick figures, which POSE
reads, a first stage of such figures, or RUN itself. 18 layers of width 768,
129M parameters, length 340 (Esser et al. 2021, Table 8): two grids of 17 x 10,
which our reading of that length makes of such upright pictures.
"""

import ml_collections

from configs import prior_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = prior_imagenet.get_config()
  config.data.source = "pairs"
  config.data.name = ""
  config.data.dir = "deepfashion"
  config.data.size = (272, 160)
  config.data.flip = False  # left and right have names
  config.condition.kind = "keypoints"
  config.condition.skeleton = "openpose18"
  config.condition.stage.like = config.tokenizer.like
  config.model.layers, config.model.width = 18, 768
  return prior_imagenet.variant(config, arg)
