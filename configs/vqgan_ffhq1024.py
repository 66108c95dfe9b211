"""VQGAN on FFHQ at 1024 pixels, f32, 8,192 codes: a grid of 32 x 32.

    python -m launch.train --config=configs/vqgan_ffhq1024.py --workdir=DIR

The first stage of the megapixel samples of SUNDAE (McKinney & Willcocks 2022,
sec. 4). They publish its factor and its number of codes; the widths are ours.
"""

import ml_collections

from configs import vqgan_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = vqgan_imagenet.get_config()
  config.data.name = "ffhq"
  config.data.size = (1024, 1024)
  config.model.channels = 64
  config.model.multipliers = (1, 1, 2, 4, 8, 8)
  config.model.attention = (32,)
  config.model.resolution = 1024
  config.quantizer.num_codes = 8192
  config.adversary.start = 30_001
  config.adversary.num_layers = 4
  config.adversary.peak = config.optimizer.peak = 3.6e-5  # 4.5e-6 x 8
  config.train.batch_size = 8
  config.train.remat = True
  config.eval.batch_size = 8
  return vqgan_imagenet.variant(config, arg)
