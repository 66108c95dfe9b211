"""DCTransformer on the embedded scenes: what `make demo` trains.

    python -m launch.train --config=configs/dct_scenes.py --workdir=DIR
    python -m launch.train --config=configs/dct_scenes.py:luma --workdir=DIR

`luma` lists all luma first, for colourisation; tiny: `:luma,tiny`. Made for
six minutes on two CPU cores, which asks for a larger rate than the paper's.
"""

import ml_collections

from configs import dct_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "luma", "tiny", both with a comma, or ""."""
  parts = [part for part in arg.split(",") if part]
  luma = bool(parts) and parts[0] == "luma"
  config = dct_imagenet.get_config()
  config.data.name = "scenes/64"
  config.data.resize = 64
  config.model.quality = 50
  config.model.rows = config.model.cols = 8
  config.model.order = "luma_first" if luma else "interleaved"
  config.model.max_value = 64
  config.model.chunk_len, config.model.overlap = 128, 8
  # Colours are decided in the first chunk: favour it, but less than the paper.
  config.model.chunk_exponent = 1.0
  config.model.width, config.model.num_heads = 128, 4
  config.model.encoder, config.model.channel = (2,), (2,)
  config.model.position, config.model.value = (1,), (2,)
  config.model.stride, config.model.kernel = 1, 2
  config.model.dropout = 0.0
  config.model.gate = 0.1
  config.model.num_classes = 24
  config.model.class_scale = 0.2
  config.optimizer.peak = 5e-3
  config.optimizer.b2 = 0.98
  config.optimizer.warmup_steps = 50
  config.optimizer.ema_decay = 0.99
  config.train.num_steps = 1900
  config.train.batch_size = 8
  config.train.remat = False
  config.train.log_every = 20
  config.train.checkpoint_every = 500
  config.eval.every, config.eval.batch_size = 950, 128
  config.eval.num_examples = 100
  config.sample.every = 950
  config.mesh.data = -1
  config.mesh.fsdp = 1
  return dct_imagenet.variant(config, ",".join(parts[luma:]))
