"""A prior over ImageNet's codes given edges, 256 pixels, f16.

    python -m launch.train --config=configs/prior_imagenet_edges.py \
        --config.tokenizer.weights=RUN --workdir=DIR

Canny's edges are found on the device, drawn white on black and read by the
first stage of the images, or of `--config.condition.stage.weights=RUN`. 24
layers of width 1024, 307M parameters (Esser et al. 2021, Table 8).
"""

import ml_collections

from configs import prior_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = prior_imagenet.get_config()
  config.condition.kind = "edges"
  config.condition.stage.like = config.tokenizer.like
  return prior_imagenet.variant(config, arg)
