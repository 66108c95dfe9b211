"""VQGAN on FFHQ and CelebA-HQ together, 256 pixels, f16, 1,024 codes.

    python -m launch.train --config=configs/vqgan_faces.py \
        --config.data.dir=FACES --workdir=DIR

FACES holds the folders `ffhq` and `celeba_hq` of pictures; 5% of each are held
out. The first stage of FacesHQ with coordinates (Esser et al. 2021, fig. 6).
"""

import ml_collections

from configs import vqgan_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = vqgan_imagenet.get_config()
  config.data.source = "folder"
  config.data.name = ""
  config.data.dir = "faces"
  config.adversary.start = 30_001
  config.adversary.peak = config.optimizer.peak = 1.35e-5  # 4.5e-6 x 3
  config.train.batch_size = 3
  config.eval.batch_size = 8
  return vqgan_imagenet.variant(config, arg)
