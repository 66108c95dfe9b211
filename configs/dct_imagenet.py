"""DCTransformer on ImageNet, class-conditional (Nash et al. 2021).

    python -m launch.train --config=configs/dct_imagenet.py --workdir=DIR
    python -m launch.train --config=configs/dct_imagenet.py:tiny --workdir=DIR

Published: precision 0.36, recall 0.67, FID 36.51, sFID 8.24 (50,000 samples);
8x upsampling 0.61, 0.61, 9.98, 11.06. 738M parameters, batch 512, 300e9 target
elements. The other dct_* configs begin with this one and say what differs.
Where the paper is silent the value is our choice, and marked so.
"""

import ml_collections

from configs import _sections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is "" or "tiny"."""
  config = ml_collections.ConfigDict()
  config.task = "dctransformer"
  config.seed = 0
  # "accelerator", "gpu" or "tpu" stops at once where there is none.
  config.platform = "auto"

  config.data = ml_collections.ConfigDict()
  config.data.source = (
    "tfds"  # or "folder", or "arrays": an .npz, no TensorFlow
  )
  config.data.name = "imagenet2012"
  config.data.split = "train"
  config.data.eval_split = "validation"
  config.data.dir = ""  # TFDS's own default
  config.data.resize = 384  # long side in pixels; choice
  config.data.fit = "crop"  # or "pad", to whole blocks; choice
  config.data.flip = False
  config.data.num_measured = 2000  # images, before the first step

  config.model = ml_collections.ConfigDict()
  config.model.block = 8
  config.model.quality = 75  # choice
  config.model.rows = 48  # canvas in blocks: resize / block
  config.model.cols = 48
  config.model.order = "interleaved"  # or "luma_first"
  config.model.max_value = 1024  # choice
  config.model.table = "bilinear"  # or "nearest", for blocks over 8; choice
  config.model.upsampling = "nearest"  # or "bilinear", of chroma; choice
  config.model.chunk_len = 896
  config.model.overlap = 128
  config.model.max_chunks = 0  # 0: measured, 99% of the lists are whole
  config.model.chunk_exponent = 3.0  # choice, like the next
  config.model.chunk_floor = 0.1
  config.model.width = 1152
  config.model.num_heads = 18
  config.model.encoder = (2, 2, 2, 2)  # feed-forwards per attention
  config.model.channel = (2, 2, 2, 4)
  config.model.position = (2, 2, 2, 2, 2, 5)  # not published; fits the count
  config.model.value = (2, 2, 2, 2, 2, 7)
  config.model.stride = 2  # of the encoder's convolution; choice
  config.model.kernel = 4  # choice
  config.model.dropout = 0.1
  config.model.gate = 0.0
  config.model.num_classes = 1000  # -1: those of the dataset; 0: none
  config.model.class_drop = 0.0  # above 0 trains the null class of guidance
  config.model.class_scale = 0.02
  config.model.attention = "xla"  # "pieces": less memory; "cudnn"

  config.optimizer = ml_collections.ConfigDict()
  config.optimizer.name = "adam"
  config.optimizer.peak = 5e-4
  config.optimizer.warmup_steps = 1000
  config.optimizer.schedule = "cosine"
  config.optimizer.final = 0.0  # a share of the peak
  config.optimizer.b1 = 0.9
  config.optimizer.b2 = 0.999
  config.optimizer.weight_decay = 0.0
  config.optimizer.clip_norm = 1.0  # choice
  config.optimizer.ema_decay = 0.0  # 0 keeps no average

  config.train = _sections.train(
    num_steps=654_000,  # 300e9 / (512 * 896)
    batch_size=512,  # chunks
    checkpoint_every=2000,
    remat=True,
  )
  config.train.chunks_per_image = 1
  config.train.weighted = False  # True: unbiased by importance weights
  config.eval = _sections.evaluation(
    batch_size=256, num_examples=1000, metrics="fid,precision_recall"
  )
  config.sample = _sections.sample()
  config.mesh = _sections.mesh(data=1, fsdp=-1)
  return variant(config, arg)


def variant(
  config: ml_collections.ConfigDict, arg: str
) -> ml_collections.ConfigDict:
  """Return the config itself for "", its small form for "tiny".

  Raises:
    ValueError: any other arg.
  """
  return _sections.variant(config, arg, shrink)


def shrink(config: ml_collections.ConfigDict) -> None:
  """Make a config run in a minute on a laptop: other numbers, other data."""
  model, train = config.model, config.train
  config.data.source = "tfds"
  config.data.name = "scenes/32"
  config.data.split = "train[:256]"
  config.data.eval_split = "validation[:16]"
  config.data.dir = ""
  config.data.resize = 4 * model.block
  config.data.num_measured = 64
  model.rows = model.cols = 4
  model.max_value = 128
  model.chunk_len, model.overlap = 48, 8
  model.width, model.num_heads = 32, 2
  model.encoder, model.channel = (1,), (1,)
  model.position, model.value = (1,), (1,)
  if model.num_classes:
    model.num_classes = 24
  config.optimizer.peak = 3e-3
  config.optimizer.warmup_steps = 5
  train.num_steps, train.batch_size = 60, 8
  train.log_every, train.checkpoint_every = 10, 30
  config.eval.every, config.eval.batch_size = 30, 16
  config.eval.num_examples = config.eval.scores.num = 16
  config.sample.every = 60
  config.sample.num = config.sample.batch = 8
