"""SUNDAE on MNIST by class, with the shades of the pixels as codes.

    python -m launch.train --config=configs/sundae_mnist.py --workdir=DIR

28 x 28 codes of 256 shades, 2-8-2 layers, no first stage (McKinney & Willcocks
2022); tiny: `:tiny`.
"""

import ml_collections

from configs import sundae_ffhq256

variant = sundae_ffhq256.variant  # for configs that begin with this one


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = sundae_ffhq256.get_config()
  config.data.name = "mnist"
  config.data.eval_split = "test"
  sundae_ffhq256.pixels(config, 28)
  config.model.layers = (2, 8, 2)
  config.model.num_classes = 10
  config.train.batch_size = 8
  config.sample.steps = 50
  config.sample.temperature = config.sample.end_temperature = 0.9
  config.sample.proportion = config.sample.end_proportion = 1.0
  return variant(config, arg)
