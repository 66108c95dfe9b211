"""VQGAN on CIFAR-10: f4, 8 x 8 codes of 1,024.

    python -m launch.prepare cifar10
    python -m launch.train --config=configs/vqgan_cifar10.py --workdir=DIR

The first stage of `sundae_cifar10.py`; tiny: `:tiny`. Its size is a count of
operations for about ten minutes on one GPU, not yet measured there. Without
LPIPS, which would need its weights. Nobody published a score.
"""

import ml_collections

from configs import _cifar10, vqgan_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = vqgan_imagenet.get_config()
  config.data.name = "cifar10"
  config.data.eval_split = "test"
  config.data.size = (32, 32)
  _cifar10.first_stage(config)
  config.loss.pixel = "l2"
  config.loss.perceptual = 0.0
  config.adversary.weight = 0.8
  config.adversary.start = 6000
  config.adversary.warmup = 200
  config.adversary.num_layers = 2
  config.adversary.peak = 2e-4
  config.optimizer.peak = 4e-4
  config.optimizer.warmup_steps = 200
  config.optimizer.schedule = "cosine"
  config.optimizer.final = 0.1
  config.optimizer.ema_decay = 0.999
  config.train.num_steps = 10_000
  config.train.batch_size = 128
  config.train.checkpoint_every = 2000
  config.eval.every = config.sample.every = 2000
  config.eval.batch_size = 128
  return vqgan_imagenet.variant(config, arg)
