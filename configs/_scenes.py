"""The first stage of the embedded scenes: f4 with 256 codes; no experiment."""

import ml_collections


def first_stage(config: ml_collections.ConfigDict) -> None:
  """Set `model` and `quantizer` of a first stage, or of what describes one."""
  model, quantizer = config.model, config.quantizer
  model.channels, model.multipliers, model.num_blocks = 32, (1, 2, 2), 1
  model.attention, model.resolution, model.z_channels = (), 64, 64
  quantizer.name, quantizer.num_codes, quantizer.width = "average", 256, 8
  quantizer.decay = 0.95
  quantizer.beta = 0.01  # more shrinks the latents before they learn
  quantizer.dead_after = 10
