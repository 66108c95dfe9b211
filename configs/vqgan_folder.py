"""VQGAN on a folder of your own pictures.

    python -m launch.train --config=configs/vqgan_folder.py:256 \
        --config.data.dir=PICTURES --workdir=DIR

The argument is the side in pixels: 64 (f4), 128 (f8) or 256 (f16, default), and
tiny: `:64,tiny`. The discriminator begins at step 10,000 and learns alone for
1,000; begin later where reconstructions are still poor by then. LPIPS fetches
the weights of VGG before the first step; --config.loss.perceptual=0 goes
without.
"""

import ml_collections

from configs import vqgan_imagenet

# Side: (multipliers, attention at).
SIDES = {
  "64": ((1, 2, 4), (16,)),
  "128": ((1, 1, 2, 4), (16,)),
  "256": ((1, 1, 2, 2, 4), (16,)),
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is a side, "tiny", or both with a comma."""
  parts = [part for part in arg.split(",") if part]
  side = parts.pop(0) if parts and parts[0] != "tiny" else "256"
  if side not in SIDES:
    raise ValueError(f'side "{side}" must be one of {", ".join(SIDES)}')
  config = vqgan_imagenet.get_config()
  config.data.source = "folder"
  config.data.name = ""
  config.data.dir = "pictures"
  config.data.num_measured = 256
  config.data.size = (int(side), int(side))
  config.model.multipliers, config.model.attention = SIDES[side]
  config.model.resolution = int(side)
  config.optimizer.schedule = "cosine"
  config.optimizer.peak = 2e-4
  config.optimizer.warmup_steps = 500
  config.optimizer.ema_decay = 0.999
  config.adversary.schedule = "cosine"  # both players come to rest together
  config.adversary.peak = 2e-4
  config.adversary.warmup_steps = 500
  config.adversary.start = 10_000
  config.adversary.warmup = 1000
  config.train.num_steps = 100_000
  config.train.batch_size = 16
  config.eval.every = config.sample.every = 2000
  return vqgan_imagenet.variant(config, ",".join(parts))
