"""VQGAN of COCO-Stuff's label maps, 256 pixels, f16, 1,024 codes.

    python -m launch.train --config=configs/vqgan_coco_segmentation.py \
        --config.data.dir=COCO --workdir=DIR

The condition stage of the published semantic synthesis (Esser et al. 2021,
sec. 4.2). COCO holds `train` and `validation`, each with `images` and
`segmentation` (the PNG files of stuffthingmaps: 0 to 181, 255 unlabelled).
"""

import ml_collections

from configs import vqgan_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = vqgan_imagenet.get_config()
  config.data.source = "pairs"
  config.data.name = ""
  config.data.dir = "coco"
  config.data.target = "segmentation"
  config.data.num_labels = 183
  config.data.label_shift = 1
  config.data.zoom = 1.1  # choice: crops that show most of the picture
  config.loss.perceptual = 0.0
  config.adversary.weight = 0.0
  return vqgan_imagenet.variant(config, arg)
