"""DCTransformer on retina photographs at 1024 pixels (Nash et al. 2021).

    python -m launch.train --config=configs/dct_diabetic_retinopathy.py \
        --workdir=DIR

TFDS needs the files of the Kaggle competition in its manual folder.
"""

import ml_collections

from configs import dct_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = dct_imagenet.get_config()
  config.data.name = "diabetic_retinopathy_detection/original"
  config.data.resize = 1024
  config.model.block = 16
  config.model.rows = config.model.cols = 64
  config.model.width = 896
  config.model.num_heads = 14
  config.model.num_classes = 0
  return dct_imagenet.variant(config, arg)
