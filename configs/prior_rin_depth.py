"""A prior over the codes of Restricted ImageNet given depth, 256 pixels, f16.

    python -m launch.train --config=configs/prior_rin_depth.py \
        --config.data.dir=DRIN --config.tokenizer.weights=RUN \
        --config.condition.stage.weights=DEPTH --workdir=DIR

DRIN holds `train` and `validation`, each with `images` and `depth` (PNG of any
depth estimator); DEPTH is a run of `vqgan_depth.py`. 14 layers of width 1024,
180M parameters; `:large` has 24, 307M; tiny: `:tiny` or `:large,tiny`.
Published 4.70 nats a code, PixelSNAIL 4.88 (Esser et al. 2021, Tables 1, 8).
"""

import ml_collections

from configs import _sections, prior_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "large", "tiny", both with a comma, or ""."""
  parts = [part for part in arg.split(",") if part]
  large = bool(parts) and parts[0] == "large"
  config = prior_imagenet.get_config()
  config.data.source = "pairs"
  config.data.name = ""
  config.data.dir = "drin"
  config.condition.kind = "depth"
  stage = _sections.first_stage(prior_imagenet.stage_config("depth"))
  config.condition.stage.like = stage
  config.model.layers = 24 if large else 14
  return prior_imagenet.variant(config, ",".join(parts[large:]))
