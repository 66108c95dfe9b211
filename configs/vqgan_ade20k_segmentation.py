"""VQGAN of ADE20K's label maps, 256 pixels, f16, 1,024 codes.

    python -m launch.train --config=configs/vqgan_ade20k_segmentation.py \
        --config.data.dir=ADE20K --workdir=DIR

The condition stage of the published semantic synthesis (Esser et al. 2021,
sec. 4.2): one-hot maps, cross-entropy, no discriminator. ADE20K holds `train`
and `validation`, each with `images` and `segmentation` (PNG, 0 unlabelled, 1 to
150 the classes).
"""

import ml_collections

from configs import vqgan_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = vqgan_imagenet.get_config()
  config.data.source = "pairs"
  config.data.name = ""
  config.data.dir = "ade20k"
  config.data.target = "segmentation"
  config.data.num_labels = 151
  config.data.label_shift = 0
  config.data.zoom = 1.1  # choice: crops that show most of the picture
  config.loss.perceptual = 0.0
  config.adversary.weight = 0.0
  return vqgan_imagenet.variant(config, arg)
