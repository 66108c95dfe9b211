"""DCTransformer on CLEVR at its own 480 x 320 pixels (Nash et al. 2021).

python -m launch.train --config=configs/dct_clevr.py --workdir=DIR
"""

import ml_collections

from configs import dct_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = dct_imagenet.get_config()
  config.data.name = "clevr"
  config.data.resize = 480
  config.model.quality = 90
  config.model.rows = 40
  config.model.cols = 60
  config.model.width = 896
  config.model.num_heads = 14
  config.model.num_classes = 0
  return dct_imagenet.variant(config, arg)
