"""VQGAN on the embedded scenes: f4, 256 codes, what `make demo-vqgan` trains.

    python -m launch.train --config=configs/vqgan_scenes.py --workdir=DIR
    python -m launch.train --config=configs/vqgan_scenes.py:vqvae --workdir=DIR

`vqvae` trains without a discriminator; tiny: `:tiny` or `:vqvae,tiny`. Made for
ten minutes on two CPU cores, without LPIPS, which would need its weights.
"""

import ml_collections

from configs import _scenes, vqgan_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "vqvae", "tiny", both with a comma, or ""."""
  parts = [part for part in arg.split(",") if part]
  plain = bool(parts) and parts[0] == "vqvae"
  config = vqgan_imagenet.get_config()
  config.data.name = "scenes/64"
  config.data.num_measured = 256
  config.data.size = (64, 64)
  _scenes.first_stage(config)
  config.loss.pixel = "l2"  # small objects before a wide background
  config.loss.perceptual = 0.0
  config.adversary.weight = 0.0 if plain else 0.8
  config.adversary.start = 750
  config.adversary.warmup = 100
  config.adversary.channels = 32
  config.adversary.num_layers = 2
  config.adversary.freeze_codebook = True
  config.adversary.peak = 2e-4
  config.optimizer.schedule = "cosine"
  config.optimizer.peak = 1e-3
  config.optimizer.final = 0.1  # reached as the discriminator begins
  config.optimizer.decay_steps = 750
  config.optimizer.ema_decay = 0.99
  config.train.num_steps = 1150
  config.train.batch_size = 4
  config.train.log_every = 25
  config.train.checkpoint_every = 300
  config.eval.every = 300
  config.eval.batch_size = 50
  config.eval.num_examples = 100
  config.sample.every = 300
  return vqgan_imagenet.variant(config, ",".join(parts[plain:]))
