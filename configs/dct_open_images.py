"""DCTransformer that colours grey pictures, on Open Images (Nash et al. 2021).

    python -m launch.train --config=configs/dct_open_images.py --workdir=DIR
    python -m launch.sample --workdir=DIR --colorize=IMAGE --out=DIR2

Lists hold all luma first, so that a prefix is the grey picture. Published:
precision 0.72, recall 0.41, FID 22.52, sFID 22.83.
"""

import ml_collections

from configs import dct_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = dct_imagenet.get_config()
  config.data.name = "open_images_v4"
  config.model.order = "luma_first"
  config.model.width = 896
  config.model.num_heads = 14
  config.model.num_classes = 0
  return dct_imagenet.variant(config, arg)
