"""A prior over the codes of a folder of your own pictures.

    python -m launch.tokenize --workdir=RUN --out=CODES --flips
    python -m launch.train --config=configs/prior_folder.py:256 \
        --config.data.dir=CODES --workdir=DIR

RUN is a run of `vqgan_folder.py` with the same side: 64, 128 or 256 pixels
(default); class folders become classes; tiny: `:64,tiny`. Made for one GPU.
"""

import ml_collections

from configs import prior_imagenet

SIDES = {"64": (1, 2, 4), "128": (1, 1, 2, 4), "256": (1, 1, 2, 2, 4)}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is a side, "tiny", or both with a comma."""
  parts = [part for part in arg.split(",") if part]
  side = parts.pop(0) if parts and parts[0] != "tiny" else "256"
  if side not in SIDES:
    raise ValueError(f'side "{side}" must be one of {", ".join(SIDES)}')
  config = prior_imagenet.get_config()
  config.data.source = "codes"
  config.data.name = ""
  config.data.dir = "codes"
  config.data.size = (int(side), int(side))
  config.tokenizer.like.model.multipliers = SIDES[side]
  config.tokenizer.like.model.resolution = int(side)
  config.model.layers, config.model.width, config.model.heads = 12, 512, 8
  config.model.num_classes = -1  # those of the folder
  config.model.class_drop = 0.1
  config.model.dropout = 0.1
  config.optimizer.peak = 3e-4
  config.optimizer.ema_decay = 0.999
  config.train.num_steps = 100_000
  config.train.remat = False
  config.eval.every = config.sample.every = 2000
  config.eval.num_examples = 256
  config.mesh.data, config.mesh.fsdp = -1, 1
  return prior_imagenet.variant(config, ",".join(parts))
