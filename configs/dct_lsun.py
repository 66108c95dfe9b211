"""DCTransformer on LSUN bedrooms, towers or churches (Nash et al. 2021).

    python -m launch.train --config=configs/dct_lsun.py:bedroom --workdir=DIR

The argument is bedroom (default), tower or church_outdoor, and tiny:
`configs/dct_lsun.py:tower,tiny`. Published (precision, recall, FID, sFID):
bedrooms 0.44, 0.56, 6.40, 6.66; towers 0.54, 0.54, 8.78, 7.70; churches 0.60,
0.48, 7.56, 10.71. 448M parameters.
"""

import ml_collections

from configs import dct_imagenet

SCENES = ("bedroom", "tower", "church_outdoor")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` names a scene, "tiny", or both with a comma."""
  parts = [part for part in arg.split(",") if part]
  scene = parts.pop(0) if parts and parts[0] != "tiny" else SCENES[0]
  if scene not in SCENES:
    raise ValueError(f'LSUN scene "{scene}" must be one of {", ".join(SCENES)}')
  config = dct_imagenet.get_config()
  config.data.name = f"lsun/{scene}"
  config.model.width = 896
  config.model.num_heads = 14
  config.model.num_classes = 0
  return dct_imagenet.variant(config, ",".join(parts))
