"""SUNDAE on FFHQ's codes, 256 pixels, f16 (McKinney & Willcocks 2022).

    python -m launch.train --config=configs/sundae_ffhq256.py \
        --config.tokenizer.weights=RUN --workdir=DIR
    python -m launch.tokenize --workdir=RUN --out=CODES --flips
    python -m launch.train --config=configs/sundae_ffhq256.py \
        --config.data.source=codes --config.data.dir=CODES --workdir=DIR

2-10-2 layers of width 1024, 178M parameters, 2 unrolls; tiny: `:tiny`. RUN is a
first stage, a run of `vqgan_ffhq.py` or what `launch.import_checkpoint` made;
CODES holds mirror images too, as `data.flip` asks. TFDS has no FFHQ:
`data.ffhq` reads the 70,000 PNG files from the folder that `python -m
launch.prepare ffhq --manual_dir=PICTURES` is given. Published: FID 10.56 with
100 steps, after two to four days on one GPU. The other sundae_* configs begin
with this one and say what differs. Where we do better than the authors did, the
comment says what they had; `model.reference` is their network.
"""

import ml_collections

from configs import _sections, prior_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  prior = prior_imagenet.get_config()
  config = ml_collections.ConfigDict()
  config.task = "sundae"
  config.seed = 0
  config.platform = "auto"

  # Pictures, encoded within the step: "tfds", "folder", "pairs", "arrays"; or
  # "codes", what launch.tokenize wrote into `dir`.
  config.data = prior.data
  config.data.name = "ffhq"

  # `weights`: a run, exported weights or what ships; "": those beside the
  # codes. `like`: the first stage's config, here VQGAN's f16 of 1,024 codes.
  config.tokenizer = prior.tokenizer

  config.model = ml_collections.ConfigDict()
  config.model.layers = (2, 10, 2)  # fine, coarse, fine; two more a level
  config.model.factors = ((2, 2),)  # rows and columns of a patch, a level
  config.model.width = 1024
  config.model.heads = 8
  config.model.head_width = 64
  config.model.resampling = "patch"  # or "global", "none"
  config.model.places = "middles"  # of codes; "corners" (the authors)
  config.model.reference = False  # the authors: True
  config.model.num_classes = 0  # -1: those of the dataset
  config.model.class_drop = 0.0  # above 0 trains the null class of guidance
  config.model.attention = "xla"  # "pieces": less memory; "cudnn"

  config.optimizer = ml_collections.ConfigDict()
  config.optimizer.name = "adamw"
  config.optimizer.peak = 3e-5
  config.optimizer.warmup_steps = 0
  config.optimizer.schedule = "constant"
  config.optimizer.final = 0.0  # of other schedules, a share of the peak
  config.optimizer.b1 = 0.9
  config.optimizer.b2 = 0.999
  config.optimizer.weight_decay = 0.01
  config.optimizer.decays = "kernels"  # or "all" (the authors)
  config.optimizer.clip_norm = 0.0
  config.optimizer.ema_decay = 0.0  # 0 keeps no average

  config.train = prior.train
  config.train.num_steps = 500_000  # choice
  config.train.batch_size = 64
  config.train.unrolls = 2

  config.eval = prior.eval

  config.sample = prior.sample
  config.sample.steps = 100
  config.sample.min_steps = 10  # before a sample may stop by itself
  # Only where all codes are drawn as they are; the authors: False, where none
  # changed.
  config.sample.agreed = True
  config.sample.temperature = 0.8  # of the first step; 0 is greedy
  config.sample.end_temperature = 0.8  # of the last, linear between
  config.sample.proportion = 0.5  # that is accepted of drawn codes
  config.sample.end_proportion = 0.5
  config.sample.confident = False  # True: the likeliest of those that change
  config.sample.confidence_noise = 1.0  # on their order; 0: none
  config.sample.argmax = False  # one more, greedy step
  config.sample.top_k = 0

  config.mesh = prior.mesh
  return variant(config, arg)


def pixels(config: ml_collections.ConfigDict, side: int) -> None:
  """Take the shades of square grey pictures as codes, without a first stage."""
  config.data.size = (side, side)
  config.data.flip = False
  config.tokenizer.like = ml_collections.ConfigDict(
    {"task": "pixels", "data": {"channels": 1}}
  )


def variant(
  config: ml_collections.ConfigDict, arg: str
) -> ml_collections.ConfigDict:
  """Return the config itself for "", its small form for "tiny".

  Raises:
    ValueError: any other arg.
  """
  return _sections.variant(config, arg, shrink)


def shrink(config: ml_collections.ConfigDict) -> None:
  """Make a config run in a minute on a laptop: other numbers, other data.

  The first stage belongs to the dataset: what ships for the scenes takes its
  place, but shades of grey stay what they are.
  """
  model, train = config.model, config.train
  config.data.source = "tfds"
  config.data.name = "scenes/32"
  config.data.split = "train[:256]"
  config.data.eval_split = "validation[:16]"
  config.data.dir = ""
  config.data.num_measured = 64
  config.data.size = (32, 32)
  if config.tokenizer.like.task == "vqgan":
    config.tokenizer.weights = "vqgan_scenes"
  else:
    config.data.size = (16, 16)
  model.layers = tuple(min(count, 1) for count in model.layers)
  model.width, model.heads, model.head_width = 32, 2, 16
  if model.num_classes > 0:
    model.num_classes = 24
  config.optimizer.peak = 3e-3
  config.optimizer.warmup_steps = 0
  train.num_steps, train.batch_size = 60, 8
  train.log_every, train.checkpoint_every = 10, 30
  config.eval.every, config.eval.batch_size = 30, 16
  config.eval.num_examples = config.eval.scores.num = 16
  config.sample.every = 60
  config.sample.num = config.sample.batch = 8
  config.sample.steps, config.sample.min_steps = 5, 2
