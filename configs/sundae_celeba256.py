"""SUNDAE on CelebA-HQ's codes, 256 pixels, f16 (McKinney & Willcocks 2022).

    python -m launch.train --config=configs/sundae_celeba256.py \
        --config.tokenizer.weights=RUN --workdir=DIR

2-12-2 layers, 199M parameters, 3 unrolls; tiny: `:tiny`. RUN is a first stage,
such as a run of `vqgan_celeba_hq.py`.
"""

import ml_collections

from configs import sundae_ffhq256


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = sundae_ffhq256.get_config()
  config.data.name = "celeb_a_hq/256"
  config.data.split = "train[:27000]"
  config.data.eval_split = "train[27000:]"
  config.model.layers = (2, 12, 2)
  config.train.batch_size = 48
  config.train.unrolls = 3
  config.sample.steps = 200
  return sundae_ffhq256.variant(config, arg)
