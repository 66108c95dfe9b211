"""SUNDAE on ImageNet's codes by class, 256 pixels, f16.

    python -m launch.train --config=configs/sundae_imagenet.py \
        --config.tokenizer.weights=RUN --config.optimizer.peak=3e-5 \
        --workdir=DIR
    python -m launch.train --config=configs/sundae_imagenet.py:large \
        --config.tokenizer.weights=RUN --workdir=DIR

2-12-2 layers with 8 heads, or 2-16-2 with 12 (`:large`), 3 unrolls (McKinney &
Willcocks 2022); tiny: `:tiny` or `:large,tiny`. RUN is a first stage, such as a
run of `vqgan_imagenet.py`. The rate of the smaller one, 1e-6, is the authors'
last: read it as late fine-tuning, and train from scratch with 3e-5, as above.
"""

import ml_collections

from configs import sundae_ffhq256


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "large", "tiny", both with a comma, or ""."""
  parts = [part for part in arg.split(",") if part]
  large = bool(parts) and parts[0] == "large"
  config = sundae_ffhq256.get_config()
  config.data.name = "imagenet2012"
  config.model.layers = (2, 16, 2) if large else (2, 12, 2)
  config.model.heads = 12 if large else 8
  config.model.num_classes = 1000
  config.model.class_drop = 0.1  # for guidance; the authors: 0
  config.optimizer.peak = 3e-5 if large else 1e-6
  config.train.batch_size = 128 if large else 192
  config.train.unrolls = 3
  config.sample.steps = 200
  config.sample.end_temperature = 0.7
  config.sample.proportion = config.sample.end_proportion = 0.7
  return sundae_ffhq256.variant(config, ",".join(parts[large:]))
