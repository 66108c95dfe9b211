"""SUNDAE over the codes of a folder of your own pictures.

    python -m launch.tokenize --workdir=RUN --out=CODES --flips
    python -m launch.train --config=configs/sundae_folder.py \
        --config.data.dir=CODES --workdir=DIR

RUN is a run of `vqgan_folder.py` at 256 pixels; class folders become classes;
tiny: `:tiny`. Made for one GPU. It also takes the pictures themselves, with
data.source=folder and tokenizer.weights=RUN.

`:64,laptop` reads the codes of a run of `vqgan_folder.py:64,laptop`, with the
network and six times the steps of `sundae_scenes.py`: by a count of operations
about an hour on two CPU cores, not yet measured.
"""

import ml_collections

from configs import _scenes, sundae_ffhq256

LAPTOP = ["64", "laptop"]


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "64,laptop", "tiny", both, or ""."""
  parts = [part for part in arg.split(",") if part]
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
  if parts[:2] == LAPTOP:
    _fit_laptop(config)
    parts = parts[2:]
  elif parts not in ([], ["tiny"]):
    raise ValueError(
      f'config argument "{arg}" must be "64,laptop", "tiny", both, or absent'
    )
  return sundae_ffhq256.variant(config, ",".join(parts))


def _fit_laptop(config: ml_collections.ConfigDict) -> None:
  """Make the network that of the scenes, and the run six times as long."""
  config.data.size = (64, 64)
  _scenes.first_stage(config.tokenizer.like)
  config.model.layers = (1, 4, 1)
  config.model.width = 128
  config.model.heads, config.model.head_width = 4, 32
  config.optimizer.peak = 2e-3  # as in sundae_scenes: short runs ask for it
  config.optimizer.warmup_steps = 100
  config.optimizer.ema_decay = 0.995
  config.train.num_steps = 4200
  config.train.batch_size = 8
  config.train.remat = False
  config.train.log_every = 20
  config.train.checkpoint_every = 600
  config.eval.every = config.sample.every = 600
  config.sample.steps = 20
  # As in sundae_scenes; not measured on photographs.
  config.sample.proportion, config.sample.end_proportion = 0.3, 0.7
  config.sample.argmax = True
  config.mesh.data = -1
  config.mesh.fsdp = 1
