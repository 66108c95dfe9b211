"""VQGAN on a folder of your own pictures.

    python -m launch.train --config=configs/vqgan_folder.py:256 \
        --config.data.dir=PICTURES --workdir=DIR

The argument is the side in pixels: 64 (f4), 128 (f8) or 256 (f16, default), and
tiny: `:64,tiny`. `:64,laptop` has 256 codes and six times the steps of
`vqgan_scenes.py`, by a count of operations about an hour on two CPU cores, not
yet measured; it goes without LPIPS.

The discriminator begins at step adversary.start, 10,000, and learns alone for
1,000. It sharpens what is there and mends nothing: set adversary.start to where
the PSNR of the evaluations has all but stopped rising and the pictures in
samples/ show every object, if blurred. Where they fall apart afterwards, take a
lower adversary.weight (0.2 to 0.4) or set adversary.freeze_codebook. LPIPS
fetches the weights of VGG before the first step; --config.loss.perceptual=0
goes without.
"""

import ml_collections

from configs import _scenes, vqgan_imagenet

FORMS = ("laptop", "tiny")
# Side: (multipliers, attention at).
SIDES = {
  "64": ((1, 2, 4), (16,)),
  "128": ((1, 1, 2, 4), (16,)),
  "256": ((1, 1, 2, 2, 4), (16,)),
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is a side and forms, "laptop" and "tiny".

  Any may be absent; between them there are commas.
  """
  parts = [part for part in arg.split(",") if part]
  side = parts.pop(0) if parts and parts[0] not in FORMS else "256"
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
  # No more than 1e-4 once the discriminator has begun, which is near the peak:
  # the authors' 4.5e-6 an image would be 7.2e-5.
  config.optimizer.peak = 1e-4
  config.optimizer.warmup_steps = 500
  config.optimizer.ema_decay = 0.999
  config.adversary.schedule = "cosine"  # both players come to rest together
  config.adversary.peak = 1e-4
  config.adversary.warmup_steps = 500
  config.adversary.start = 10_000
  config.adversary.warmup = 1000
  config.train.num_steps = 100_000
  config.train.batch_size = 16
  config.eval.every = config.sample.every = 2000
  if parts[:1] == ["laptop"]:
    if side != "64":
      raise ValueError(f'side "{side}" must be 64 on a laptop: 64,laptop')
    _fit_laptop(config)
    parts.pop(0)
  return vqgan_imagenet.variant(config, ",".join(parts))


def _fit_laptop(config: ml_collections.ConfigDict) -> None:
  """Make the model that of the scenes, and the run six times as long."""
  _scenes.first_stage(config)
  config.loss.perceptual = 0.0  # it would double the time of a step
  config.adversary.start = 4500
  config.adversary.warmup = 600
  config.adversary.channels = 32
  config.adversary.num_layers = 2
  config.adversary.freeze_codebook = True
  config.adversary.schedule = "constant"
  config.adversary.warmup_steps = 0
  # As in vqgan_scenes: down to 1e-4 as the discriminator begins.
  config.optimizer.peak = 1e-3
  config.optimizer.warmup_steps = 100
  config.optimizer.final = 0.1
  config.optimizer.decay_steps = 4500
  config.optimizer.ema_decay = 0.995
  config.train.num_steps = 6900
  config.train.batch_size = 4
  config.train.log_every = 25
  config.train.checkpoint_every = 500
  config.eval.every = config.sample.every = 500
  config.eval.num_examples = 100
