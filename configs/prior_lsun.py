"""A prior over the codes of LSUN churches or towers, 256 pixels, f16.

    python -m launch.train --config=configs/prior_lsun.py:tower \
        --config.tokenizer.weights=RUN --workdir=DIR

The argument is church_outdoor (default) or tower, and tiny: `:tower,tiny`. 24
layers of width 1024, 307M parameters; published, on both together: 4.63 nats a
code, PixelSNAIL 4.89 (Esser et al. 2021, Table 1).
"""

import ml_collections

from configs import prior_imagenet

SCENES = ("church_outdoor", "tower")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` names a scene, "tiny", or both with a comma."""
  parts = [part for part in arg.split(",") if part]
  scene = parts.pop(0) if parts and parts[0] != "tiny" else SCENES[0]
  if scene not in SCENES:
    raise ValueError(f'LSUN scene "{scene}" must be one of {", ".join(SCENES)}')
  config = prior_imagenet.get_config()
  config.data.name = f"lsun/{scene}"
  return prior_imagenet.variant(config, ",".join(parts))
