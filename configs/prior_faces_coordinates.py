"""A prior over FFHQ's and CelebA-HQ's codes given coordinates, f16.

    python -m launch.train --config=configs/prior_faces_coordinates.py \
        --config.data.dir=FACES --config.tokenizer.weights=RUN --workdir=DIR

FACES holds the folders `ffhq` and `celeba_hq`; RUN is a run of
`vqgan_faces.py`. Crops of 256 pixels of pictures of 384, each code told where
it lies, so that `launch.sample --size=384x384` draws whole faces by a sliding
window. 24 layers of width 1024, 307M parameters (Esser et al. 2021, sec. 4.3).
"""

import ml_collections

from configs import prior_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = prior_imagenet.get_config()
  config.data.source = "folder"
  config.data.name = ""
  config.data.dir = "faces"
  config.data.zoom = 1.5
  config.condition.kind = "coordinates"
  config.condition.levels = 1024
  return prior_imagenet.variant(config, arg)
