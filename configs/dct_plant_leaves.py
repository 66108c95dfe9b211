"""DCTransformer on plant leaves, 2048 pixels, blocks of 32 (Nash et al. 2021).

    python -m launch.train --config=configs/dct_plant_leaves.py --workdir=DIR

TFDS has one split; its last twentieth is held out.
"""

import ml_collections

from configs import dct_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = dct_imagenet.get_config()
  config.data.name = "plant_leaves"
  config.data.split = "train[:95%]"
  config.data.eval_split = "train[95%:]"
  config.data.resize = 2048
  config.model.block = 32
  config.model.quality = 50
  config.model.rows = config.model.cols = 64
  config.model.width = 896
  config.model.num_heads = 14
  config.model.num_classes = 0
  return dct_imagenet.variant(config, arg)
