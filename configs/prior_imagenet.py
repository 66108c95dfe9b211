"""A prior over ImageNet's codes, 256 pixels, f16 (Esser et al. 2021).

    python -m launch.train --config=configs/prior_imagenet.py \
        --config.tokenizer.weights=RUN --workdir=DIR
    python -m launch.tokenize --workdir=RUN --out=CODES --flips
    python -m launch.train --config=configs/prior_imagenet.py \
        --config.data.source=codes --config.data.dir=CODES --workdir=DIR

24 layers of width 1024, 305M parameters, no condition; tiny: `:tiny`. RUN is a
first stage, a run of `vqgan_imagenet.py` or what `launch.import_checkpoint`
made; CODES holds mirror images too, as `data.flip` asks. Published: 4.78 nats a
code (PixelSNAIL 4.96); by order 4.767 row, 4.810 z_curve, 4.812 alternate,
4.889 spiral_out, 4.901 spiral_in, 5.015 subsample.
`--config.model.name=pixelsnail` trains the other model;
`--config.tokenizer.like.task=palette` with
`--config.tokenizer.like.num_codes=512` and `--config.data.size=16,16` is the
baseline f = 1, a prior over the colours of small pictures.
The authors' rate is 4.5e-6 an image of the global batch; it is written out
here: with another train.batch_size, change optimizer.peak by the same factor.
The other prior_* configs begin with this one and say what differs.
"""

import ml_collections

from configs import _sections, vqgan_imagenet


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = ml_collections.ConfigDict()
  config.task = "prior"
  config.seed = 0
  config.platform = "auto"

  config.data = ml_collections.ConfigDict()
  # Pictures, encoded within the step: "tfds", "folder", "pairs", "arrays"; or
  # "codes", what launch.tokenize wrote into `dir`.
  config.data.source = "tfds"
  config.data.name = "imagenet2012"
  config.data.split = "train"
  config.data.eval_split = "validation"
  config.data.dir = ""  # TFDS's own default
  config.data.num_measured = 1024  # images that a palette is fitted to
  config.data.size = (256, 256)  # rows and columns, in pixels
  config.data.zoom = 1.0  # 0: crops of the images' own size
  config.data.flip = True

  config.tokenizer = ml_collections.ConfigDict()
  # A run, exported weights or what ships; "": those beside the codes.
  config.tokenizer.weights = ""
  config.tokenizer.like = _sections.first_stage(vqgan_imagenet.get_config())

  config.condition = ml_collections.ConfigDict()
  # "none", "coordinates", "segmentation", "depth", "edges", "lowres",
  # "keypoints", "boxes", "codes" or "completion".
  config.condition.kind = "none"
  # "prefix" (the authors): by tokens before the codes. "beside": added where
  # each code is predicted, if the tokens are a grid over the picture; half as
  # long a sequence. "both".
  config.condition.enters = "prefix"
  config.condition.num_labels = 0  # of a segmentation, or of boxes
  config.condition.label_shift = 0
  config.condition.levels = 0  # of coordinates, or of each pooled channel
  config.condition.grid = (16, 16)  # of a pooled map
  config.condition.shrink = 8  # of a low-resolution image, for a stage
  config.condition.skeleton = ""  # of key points
  config.condition.vocabulary = 0  # of boxes and their places
  config.condition.most = 30  # boxes; of more, so many are drawn
  # Pictures with fewer boxes in their crop are not learnt from.
  config.condition.least = 0
  config.condition.min_area = 1e-5  # of a box, as a share of the picture
  # Of boxes: "group,occluded,depiction,inside", or some of them.
  config.condition.flags = ""
  config.condition.points = False  # the centres of boxes instead
  config.condition.crop = True  # told as one more box
  # The first stage that reads a map; task "" pools it instead.
  config.condition.stage = no_stage()

  config.model = ml_collections.ConfigDict()
  config.model.name = "transformer"  # or "pixelsnail"
  config.model.layers = 24  # blocks, of a PixelSNAIL
  config.model.width = 1024
  config.model.heads = 16
  config.model.length = 0  # of the positions; 0: as long as the sequence
  config.model.order = "row"  # see vqgan/orders.py
  config.model.num_classes = 0  # -1: those of the dataset
  config.model.classes = "both"  # "token" (the authors), "added", "both"
  config.model.class_drop = 0.0  # above 0 trains the null class of guidance
  config.model.class_scale = 0.02  # of what is added, at the start
  config.model.shared = False  # one table of embeddings; the authors: True
  config.model.n_unmasked = 0
  config.model.pkeep = 1.0
  config.model.dropout = 0.0
  config.model.attention = "xla"  # "pieces": less memory; "cudnn"
  config.model.residuals = 4  # of a PixelSNAIL's block
  config.model.key_width = 16  # of a PixelSNAIL's attention

  config.optimizer = ml_collections.ConfigDict()
  config.optimizer.name = "adamw"
  config.optimizer.peak = 2.88e-4  # 4.5e-6 x 64
  config.optimizer.warmup_steps = 1000  # the authors: 0
  config.optimizer.schedule = "cosine"  # the authors: "constant"
  config.optimizer.final = 0.0  # a share of the peak
  config.optimizer.b1 = 0.9
  config.optimizer.b2 = 0.95
  config.optimizer.weight_decay = 0.01
  config.optimizer.clip_norm = 1.0  # the authors: none
  config.optimizer.ema_decay = 0.9999  # 0 keeps no average; the authors: none

  config.train = _sections.train(
    num_steps=500_000,  # choice, like the batch
    batch_size=64,
    checkpoint_every=5000,
    remat=True,
  )
  config.eval = _sections.evaluation(
    batch_size=64, num_examples=2048, metrics="fid,precision_recall"
  )
  config.sample = _sections.sample(top_k=100)
  config.mesh = _sections.mesh(data=1, fsdp=-1)
  return variant(config, arg)


def stage_config(target: str) -> ml_collections.ConfigDict:
  """Return the config of a first stage of maps: "segmentation" or "depth"."""
  config = vqgan_imagenet.get_config()
  config.data.target = target
  return config


def no_stage() -> ml_collections.ConfigDict:
  """Return the stage of a condition that a pool reads."""
  return ml_collections.ConfigDict({"weights": "", "like": {"task": ""}})


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

  The first stages belong to the dataset: what ships for the scenes takes the
  place of the tokenizer, and a pool that of a condition's first stage.
  """
  model, condition, train = config.model, config.condition, config.train
  config.data.source = "tfds"
  config.data.name = "scenes/32"
  config.data.split = "train[:256]"
  config.data.eval_split = "validation[:16]"
  config.data.dir = ""
  config.data.num_measured = 64
  config.data.size = (32, 32)
  config.data.zoom = 1.0
  config.tokenizer.weights = "vqgan_scenes"
  condition.stage = no_stage()
  if condition.num_labels:
    condition.num_labels, condition.label_shift = 25, 0
  condition.levels = {"depth": 32, "lowres": 6, "keypoints": 2}.get(
    condition.kind, min(condition.levels, 64)
  )
  condition.grid = (4, 4) if condition.kind == "lowres" else (8, 8)
  if condition.vocabulary:
    condition.vocabulary, condition.most = 512, 4
    condition.least, condition.flags = min(condition.least, 1), ""
  if condition.skeleton:
    condition.skeleton = "cross"
  model.layers, model.width, model.heads = 2, 32, 2
  model.length = 0
  model.n_unmasked = 0
  model.dropout = 0.0
  if model.num_classes > 0:
    model.num_classes = 24
  config.optimizer.peak = 3e-3
  config.optimizer.warmup_steps = 5
  config.optimizer.ema_decay = min(config.optimizer.ema_decay, 0.9)
  train.num_steps, train.batch_size = 60, 8
  train.log_every, train.checkpoint_every = 10, 30
  config.eval.every, config.eval.batch_size = 30, 16
  config.eval.num_examples = config.eval.scores.num = 16
  config.sample.every = 60
  config.sample.num = config.sample.batch = 8
