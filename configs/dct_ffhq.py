"""DCTransformer on FFHQ at 1024 pixels (Nash et al. 2021).

    python -m launch.train --config=configs/dct_ffhq.py --workdir=DIR

Published: precision 0.51, recall 0.40, FID 13.06, sFID 9.44. TFDS has no FFHQ:
`data.ffhq` reads the 70,000 PNG files from a manual folder.
"""

import ml_collections

from configs import dct_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = dct_imagenet.get_config()
  config.data.name = "ffhq"
  config.data.resize = 1024
  config.model.block = 16
  config.model.quality = 35
  config.model.rows = config.model.cols = 64
  config.model.width = 896
  config.model.num_heads = 14
  config.model.num_classes = 0
  return dct_imagenet.variant(config, arg)
