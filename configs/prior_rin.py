"""A prior over the codes of Restricted ImageNet, 256 pixels, f16.

    python -m launch.train --config=configs/prior_rin.py \
        --config.data.dir=RIN --config.tokenizer.weights=RUN --workdir=DIR

RIN holds a folder for each of the nine groups of animals (Esser et al. 2021,
sec. 4.1); 5% are held out. RUN is a first stage of 768 codes of width 64. 12
layers of width 768, 85M parameters; published 4.78 nats a code, PixelSNAIL
4.96.
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
  config.model.layers, config.model.width = 12, 768
  return prior_imagenet.variant(config, arg)
