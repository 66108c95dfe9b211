"""DCTransformer on a folder of your own pictures, or of class folders.

    python -m launch.train --config=configs/dct_folder.py:256 \
        --config.data.dir=PICTURES --workdir=DIR

The argument is the long side in pixels: 32, 64, 128 or 256 (default), and
tiny: `configs/dct_folder.py:64,tiny`. Subfolders become classes. Sized for one
accelerator; 32 and 64 learn on a laptop too, in hours.
"""

import ml_collections

from configs import dct_imagenet

SIDES = (32, 64, 128, 256)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is a side, "tiny", or both with a comma."""
  parts = [part for part in arg.split(",") if part]
  side = parts.pop(0) if parts and parts[0] != "tiny" else "256"
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
  config.eval.every = 5000
  config.sample.every = 5000
  config.mesh.data = -1
  config.mesh.fsdp = 1
  return dct_imagenet.variant(config, ",".join(parts))
