"""SUNDAE on FFHQ's codes, 1024 pixels, f32: megapixel samples.

    python -m launch.train --config=configs/sundae_ffhq1024.py \
        --config.tokenizer.weights=RUN --config.optimizer.peak=3e-5 \
        --workdir=DIR
    python -m launch.train --config=configs/sundae_ffhq1024.py:3-10-3 \
        --config.tokenizer.weights=RUN --workdir=DIR

2-12-2 layers (the default, 214M parameters, 3 unrolls), `:3-10-3`, or
`:2-14-2` of twice the width (McKinney & Willcocks 2022); tiny: `:tiny` or
`:3-10-3,tiny`. RUN is a run of `vqgan_ffhq1024.py`. The rate of 2-12-2 is the
authors', 5e-6, a sixth of that of the others: for late fine-tuning; from
scratch take 3e-5, as above. TFDS has no FFHQ: `data.ffhq` reads the 70,000 PNG
files, of 1024 pixels, from the folder that `python -m launch.prepare ffhq
--manual_dir=PICTURES` is given. Published: FID 21.85 in 100 steps.
"""

import ml_collections

from configs import sundae_ffhq256

# Layers, width, rate, batch, unrolls.
FORMS = {
  "2-12-2": ((2, 12, 2), 1024, 5e-6, 10, 3),
  "3-10-3": ((3, 10, 3), 1024, 3e-5, 16, 2),
  "2-14-2": ((2, 14, 2), 2048, 3e-5, 8, 2),
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is a form, "tiny", or both with a comma."""
  parts = [part for part in arg.split(",") if part]
  form = parts.pop(0) if parts and parts[0] in FORMS else "2-12-2"
  layers, width, peak, batch_size, unrolls = FORMS[form]
  config = sundae_ffhq256.get_config()
  config.data.size = (1024, 1024)
  _like(config.tokenizer.like)
  config.model.layers, config.model.width = layers, width
  config.optimizer.peak = peak
  config.train.batch_size, config.train.unrolls = batch_size, unrolls
  config.eval.batch_size = 16
  config.sample.temperature = 1.0 if form == "2-12-2" else 0.7
  config.sample.end_temperature = 0.7
  config.sample.steps = 50 if form == "2-12-2" else 100
  return sundae_ffhq256.variant(config, ",".join(parts))


def _like(first_stage: ml_collections.ConfigDict) -> None:
  """Describe the first stage: configs/vqgan_ffhq1024.py."""
  model = first_stage.model
  model.multipliers, model.num_blocks = (1, 1, 2, 2, 4, 4), 1
  model.attention, model.resolution = (64,), 1024
  first_stage.quantizer.num_codes = 8192
