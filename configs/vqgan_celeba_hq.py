"""VQGAN on CelebA-HQ at 256 pixels, f16, 1,024 codes (Esser et al. 2021).

    python -m launch.train --config=configs/vqgan_celeba_hq.py --workdir=DIR

The first stage of the published CelebA-HQ samples (FID 10.2). TFDS makes the
dataset from manually downloaded files and has one split, cut here.
"""

import ml_collections

from configs import vqgan_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = vqgan_imagenet.get_config()
  config.data.name = "celeb_a_hq/256"
  config.data.split = "train[:27000]"
  config.data.eval_split = "train[27000:]"
  config.adversary.start = 30_001
  config.adversary.peak = config.optimizer.peak = 1.35e-5  # 4.5e-6 x 3
  config.train.batch_size = 3
  config.eval.batch_size = 8
  return vqgan_imagenet.variant(config, arg)
