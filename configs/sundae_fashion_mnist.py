"""SUNDAE on Fashion-MNIST by class, with the shades of the pixels as codes.

    python -m launch.train --config=configs/sundae_fashion_mnist.py \
        --workdir=DIR

As sundae_mnist.py (McKinney & Willcocks 2022); tiny: `:tiny`.
"""

import ml_collections

from configs import sundae_mnist


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = sundae_mnist.get_config()
  config.data.name = "fashion_mnist"
  return sundae_mnist.variant(config, arg)
