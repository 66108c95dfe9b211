"""VQGAN on FFHQ at 256 pixels, f16, 1,024 codes (Esser et al. 2021, sec. 4.3).

    python -m launch.train --config=configs/vqgan_ffhq.py --workdir=DIR

The first stage of the published FFHQ samples (FID 9.6). TFDS has no FFHQ:
`data.ffhq` reads the 70,000 PNG files from a manual folder.
"""

import ml_collections

from configs import vqgan_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = vqgan_imagenet.get_config()
  config.data.name = "ffhq"
  config.adversary.start = 30_001
  config.adversary.peak = config.optimizer.peak = 1.35e-5  # 4.5e-6 x 3
  config.train.batch_size = 3
  config.eval.batch_size = 8
  return vqgan_imagenet.variant(config, arg)
