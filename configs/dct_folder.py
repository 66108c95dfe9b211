"""DCTransformer on a folder of your own pictures, or of class folders.

    python -m launch.train --config=configs/dct_folder.py:256 \
        --config.data.dir=PICTURES --workdir=DIR

The argument is the long side in pixels: 32, 64, 128 or 256 (default), sized for
one accelerator; `:32,laptop` and `:64,laptop` learn on two CPU cores in hours,
and `:64,tiny` shows in a minute that everything runs. Subfolders are classes.
"""

import ml_collections

from configs import dct_imagenet

SIDES = (32, 64, 128, 256)
FORMS = ("laptop", "tiny")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is a side and a form, "laptop" or "tiny".

  Either may be absent; with both there is a comma between them.
  """
  parts = [part for part in arg.split(",") if part]
  side = parts.pop(0) if parts and parts[0] not in FORMS else "256"
  if side not in map(str, SIDES):
    raise ValueError(
      f'long side "{side}" must be one of {", ".join(map(str, SIDES))}'
    )
  config = dct_imagenet.get_config()
  config.data.source = "folder"
  config.data.name = ""
  config.data.eval_split = "validation"
  config.data.resize = int(side)
  config.data.flip = True
  config.model.rows = config.model.cols = int(side) // 8
  config.model.chunk_len = 128 if int(side) <= 64 else 512
  config.model.overlap = config.model.chunk_len // 8
  config.model.chunk_floor = 1.0  # uniform: better in short runs
  config.model.max_value = 256
  config.model.width = 384
  config.model.num_heads = 6
  config.model.stride = 1 if int(side) <= 64 else 2
  config.model.kernel = 2 * config.model.stride
  config.model.num_classes = -1
  config.model.class_drop = 0.1
  config.optimizer.peak = 1e-3
  config.optimizer.warmup_steps = 500
  config.optimizer.ema_decay = 0.999
  config.train.num_steps = 100_000
  config.train.batch_size = 64
  config.eval.every, config.eval.batch_size = 5000, 128
  config.sample.every = 5000
  config.mesh.data = -1
  config.mesh.fsdp = 1
  if parts[:1] == ["laptop"]:
    _fit_laptop(config)
    parts.pop(0)
  return dct_imagenet.variant(config, ",".join(parts))


def _fit_laptop(config: ml_collections.ConfigDict) -> None:
  """Make the model small, and let it learn as fast as the demo's."""
  model, train = config.model, config.train
  model.quality = 50
  model.chunk_len, model.overlap = 128, 8
  # As in dct_scenes: the first chunk decides the most, but not everything.
  model.chunk_exponent, model.chunk_floor = 1.0, 0.1
  model.width, model.num_heads = 160, 5
  model.encoder, model.channel = (2,), (2,)
  model.position, model.value = (2,), (2,)
  model.dropout = 0.0
  model.gate = 0.1
  model.class_scale = 0.2
  config.optimizer.peak = 3e-3
  config.optimizer.b2 = 0.98
  config.optimizer.warmup_steps = 200
  train.num_steps, train.batch_size = 10_000, 16
  train.remat = False
  train.log_every, train.checkpoint_every = 50, 500
  config.eval.every, config.eval.num_examples = 2000, 500
  config.sample.every = 2000
