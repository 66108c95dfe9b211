"""The first stage of CIFAR-10: f4 with 1,024 codes; no experiment."""

import ml_collections


def first_stage(config: ml_collections.ConfigDict) -> None:
  """Set `model` and `quantizer` of a first stage, or of what describes one."""
  model, quantizer = config.model, config.quantizer
  model.channels, model.multipliers = 64, (1, 2, 4)
  model.attention, model.resolution, model.z_channels = (8,), 32, 64
  quantizer.num_codes, quantizer.width = 1024, 16
