"""SUNDAE over the codes of a folder of your own pictures.

    python -m launch.tokenize --workdir=RUN --out=CODES --flips
    python -m launch.train --config=configs/sundae_folder.py \
        --config.data.dir=CODES --workdir=DIR

RUN is a run of `vqgan_folder.py` at 256 pixels; class folders become classes;
tiny: `:tiny`. Made for one GPU. It also takes the pictures themselves, with
data.source=folder and tokenizer.weights=RUN.
"""

import ml_collections

from configs import sundae_ffhq256


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = sundae_ffhq256.get_config()
  config.data.source = "codes"
  config.data.name = ""
  config.data.dir = "codes"
  config.data.num_measured = 256
  config.model.layers = (2, 8, 2)
  config.model.width = 512
  config.model.num_classes = -1  # those of the folder
  config.model.class_drop = 0.1
  config.optimizer.peak = 3e-4
  config.optimizer.warmup_steps = 500
  config.optimizer.schedule = "cosine"
  config.optimizer.clip_norm = 1.0
  config.optimizer.ema_decay = 0.999
  config.train.num_steps = 100_000
  config.train.batch_size = 32
  config.eval.every = config.sample.every = 2000
  config.eval.num_examples = 256
  return sundae_ffhq256.variant(config, arg)
