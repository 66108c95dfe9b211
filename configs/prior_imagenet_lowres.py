"""Stochastic super-resolution on ImageNet, 256 pixels, f16.

    python -m launch.train --config=configs/prior_imagenet_lowres.py \
        --config.tokenizer.weights=RUN --workdir=DIR \
        --config.condition.stage.weights=RUN

The image eight times smaller, enlarged again, is read by a first stage, RUN of
the images as well. 12 layers of width 1024, 153M parameters (Esser et al.
2021, Table 8).
"""

import ml_collections

from configs import prior_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = prior_imagenet.get_config()
  config.condition.kind = "lowres"
  config.condition.stage.like = config.tokenizer.like
  config.model.layers = 12
  return prior_imagenet.variant(config, arg)
