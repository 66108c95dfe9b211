"""A prior over CelebA-HQ's codes, 256 pixels, f16 (Esser et al. 2021).

    python -m launch.train --config=configs/prior_celeba_hq.py \
        --config.tokenizer.weights=RUN --workdir=DIR

28 layers of width 1024, 355M parameters; `:801M` has 24 of width 1664; tiny:
`:tiny` or `:801M,tiny`. RUN is a run of `vqgan_celeba_hq.py`. Published, for
the large one: FID 10.2.
"""

import ml_collections

from configs import prior_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "801M", "tiny", both with a comma, or ""."""
  parts = [part for part in arg.split(",") if part]
  large = bool(parts) and parts[0] == "801M"
  config = prior_imagenet.get_config()
  config.data.name = "celeb_a_hq/256"
  config.data.split = "train[:27000]"
  config.data.eval_split = "train[27000:]"
  if large:
    config.model.layers, config.model.width = 24, 1664
  else:
    config.model.layers = 28
  return prior_imagenet.variant(config, ",".join(parts[large:]))
