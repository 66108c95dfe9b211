"""SUNDAE on CIFAR-10's codes by class, 32 pixels, f4.

    python -m launch.train --config=configs/sundae_cifar10.py \
        --config.tokenizer.weights=RUN --workdir=DIR
    python -m launch.tokenize --workdir=RUN --out=CODES --flips
    python -m launch.train --config=configs/sundae_cifar10.py \
        --config.data.source=codes --config.data.dir=CODES \
        --config.data.eval_split=validation --workdir=DIR

8 x 8 codes, 2-8-2 layers of width 512; tiny: `:tiny`. RUN is a run of
`vqgan_cifar10.py`; the second way encodes the pictures once, not at every step.
Its size is a count of operations for about ten minutes on one GPU, not yet
measured there; so short a run asks for ten times the authors' rate. Nobody
published a score.
"""

import ml_collections

from configs import _cifar10, sundae_ffhq256


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = sundae_ffhq256.get_config()
  config.data.name = "cifar10"
  config.data.eval_split = "test"
  config.data.size = (32, 32)
  _cifar10.first_stage(config.tokenizer.like)
  config.model.layers = (2, 8, 2)
  config.model.width = 512
  config.model.num_classes = 10
  config.model.class_drop = 0.1
  config.optimizer.peak = 3e-4
  config.optimizer.warmup_steps = 500
  config.optimizer.schedule = "cosine"
  config.optimizer.clip_norm = 1.0
  config.optimizer.ema_decay = 0.999
  config.train.num_steps = 10_000
  config.train.batch_size = 256
  config.train.remat = False
  config.train.checkpoint_every = 2000
  config.eval.every = config.sample.every = 2000
  config.eval.batch_size = 256
  config.sample.steps = 50
  return sundae_ffhq256.variant(config, arg)
