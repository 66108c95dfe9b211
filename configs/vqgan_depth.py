"""VQGAN of depth maps, 256 pixels, f16, 1,024 codes (Esser et al. 2021).

    python -m launch.train --config=configs/vqgan_depth.py \
        --config.data.dir=DEPTH --workdir=DIR

The condition stage of depth to image. DEPTH holds `train` and `validation`,
each with `images` and `depth` (PNG of 8 or 16 bits, of any depth estimator);
the range of each map is stretched to [-1, 1].
"""

import ml_collections

from configs import vqgan_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = vqgan_imagenet.get_config()
  config.data.source = "pairs"
  config.data.name = ""
  config.data.dir = "depth"
  config.data.target = "depth"
  config.adversary.weight = 0.75
  config.adversary.start = 50_001
  return vqgan_imagenet.variant(config, arg)
