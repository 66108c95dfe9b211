"""A prior over the codes of Restricted ImageNet by class, 256 pixels, f16.

    python -m launch.train --config=configs/prior_rin_class.py \
        --config.data.dir=RIN --config.tokenizer.weights=RUN --workdir=DIR

As prior_rin.py, with the folders as classes. 18 layers of width 768, 128M
parameters (Esser et al. 2021, Table 8).
"""

import ml_collections

from configs import prior_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = prior_imagenet.get_config()
  config.data.dir = "rin"
  config.data.source = "folder"
  config.data.name = ""
  config.tokenizer.like.quantizer.num_codes = 768
  config.tokenizer.like.quantizer.width = 64
  config.model.layers, config.model.width = 18, 768
  config.model.num_classes = 9
  return prior_imagenet.variant(config, arg)
