"""VQGAN on Open Images at 256 pixels, f8, 8,192 codes, Gumbel quantizer.

    python -m launch.train --config=configs/vqgan_open_images.py --workdir=DIR

The authors' public f8 model; reconstruction FID on ImageNet's validation set
1.49. `--config.quantizer.name=nearest` trains the same sizes without noise.
"""

import ml_collections

from configs import vqgan_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = vqgan_imagenet.get_config("f8")
  config.data.name = "open_images_v4/300k"
  config.data.eval_split = "validation"
  config.train.batch_size = 16
  config.adversary.peak = config.optimizer.peak = 7.2e-5  # 4.5e-6 x 16
  return vqgan_imagenet.variant(config, arg)
