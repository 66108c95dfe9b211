"""A prior over ImageNet's codes by class, 256 pixels, f16 (Esser et al. 2021).

    python -m launch.train --config=configs/prior_imagenet_class.py \
        --config.tokenizer.weights=RUN --workdir=DIR

24 layers of width 1024, 307M parameters, 1,024 codes; `:1.4B` has 48 of width
1536, 24 heads and 16,384 codes; tiny: `:tiny` or `:1.4B,tiny`. RUN is a first
stage with as many codes. Published, for the large one: FID 17.04 (IS 70.6),
top-k 250 15.98 (78.6), accepting 0.05 of the samples 5.20 (280.3).
"""

import ml_collections

from configs import prior_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "1.4B", "tiny", both with a comma, or ""."""
  parts = [part for part in arg.split(",") if part]
  large = bool(parts) and parts[0] == "1.4B"
  config = prior_imagenet.get_config()
  config.model.num_classes = 1000
  config.model.class_drop = 0.1  # for guidance; the authors: 0
  config.sample.top_k = 250
  if large:
    config.tokenizer.like.quantizer.num_codes = 16_384
    config.model.layers, config.model.width = 48, 1536
    config.model.heads = 24
  return prior_imagenet.variant(config, ",".join(parts[large:]))
