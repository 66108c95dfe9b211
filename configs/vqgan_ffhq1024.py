"""VQGAN on FFHQ at 1024 pixels, f32, 8,192 codes: a grid of 32 x 32.

    python -m launch.train --config=configs/vqgan_ffhq1024.py --workdir=DIR

The first stage of the megapixel samples of SUNDAE, with the widths, weights and
rate of its authors (McKinney & Willcocks 2022).
"""

import ml_collections

from configs import vqgan_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = vqgan_imagenet.get_config()
  config.data.name = "ffhq"
  config.data.size = (1024, 1024)
  config.model.multipliers = (1, 1, 2, 2, 4, 4)
  config.model.num_blocks = 1
  config.model.attention = (64,)
  config.model.resolution = 1024
  config.quantizer.num_codes = 8192
  config.adversary.weight = 0.5
  config.adversary.start = 15_000  # as in the authors' file
  config.adversary.peak = config.optimizer.peak = 4e-5  # 5e-6 x 8
  config.train.batch_size = 8
  config.train.remat = True
  config.eval.batch_size = 8
  return vqgan_imagenet.variant(config, arg)
