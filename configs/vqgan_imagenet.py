"""VQGAN on ImageNet at 256 pixels (Esser et al. 2021, tables 4 and 7).

    python -m launch.train --config=configs/vqgan_imagenet.py --workdir=DIR
    python -m launch.train --config=configs/vqgan_imagenet.py:f8 --workdir=DIR

f16 with 1,024 codes (the default) or with 16,384 (`:16384`), or f8 with 8,192
codes and a Gumbel quantizer (`:f8`); each also as the authors trained it
(`:legacy`, `:16384,legacy`, `:f8,legacy`: their weights of the codebook's
losses, its first values, no restarts, the discriminator on a second pass, no
mirror images, float32; what stays different is the initialisation of the layers
and that BatchNorm's running statistics do not move in the generator's pass);
tiny: `:tiny` or `:f8,legacy,tiny`. Published reconstruction FID on the
validation set: 7.94 and 4.98; the published f8 was trained on Open Images
(vqgan_open_images.py). Where we do better than they did, the comment says what
they had. The other vqgan_* configs begin with this one and say what differs.

The authors' rate is 4.5e-6 an image of the global batch; it is written out
here, so that it never depends on the machine. train.batch_size and
eval.batch_size have to divide over the devices: 12 and 16 fit 1, 2 and 4 of
them, the 3 and 8 of the faces only one. On others set the next multiples of
their number, and optimizer.peak and adversary.peak by the factor of
train.batch_size, as the error says; on 8, where 16 fits already:

    --config.train.batch_size=16 --config.optimizer.peak=7.2e-05 \
        --config.adversary.peak=7.2e-05
"""

import ml_collections

from configs import _sections

FORMS = ("1024", "16384", "f8")
LEGACY = "legacy"


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Return the config; `arg` is a form, "legacy" and "tiny".

  Any may be absent; between them there are commas.
  """
  parts = [part for part in arg.split(",") if part]
  form = parts.pop(0) if parts and parts[0] in FORMS else "1024"
  config = ml_collections.ConfigDict()
  config.task = "vqgan"
  config.seed = 0
  config.platform = "auto"

  config.data = ml_collections.ConfigDict()
  config.data.source = "tfds"  # or "folder", "pairs", "arrays"
  config.data.name = "imagenet2012"
  config.data.split = "train"
  config.data.eval_split = "validation"
  config.data.dir = ""  # TFDS's own default
  config.data.num_measured = 1024  # images that may seed the codebook
  config.data.target = "image"  # or "segmentation", "depth"
  config.data.size = (256, 256)  # rows and columns
  config.data.zoom = 1.0  # 0: crops of the images' own size
  config.data.flip = True  # the authors: False
  config.data.channels = 3  # 1: shades of grey
  config.data.num_labels = 0  # classes of a segmentation
  config.data.label_shift = 0

  config.model = ml_collections.ConfigDict()
  config.model.channels = 128
  config.model.multipliers = (1, 1, 2, 2, 4)
  config.model.num_blocks = 2
  config.model.attention = (16,)  # at these resolutions, of the nominal one
  config.model.resolution = 256
  config.model.z_channels = 256
  config.model.dropout = 0.0
  config.model.norm_groups = 32
  config.model.norm_least = 4

  config.quantizer = ml_collections.ConfigDict()
  # "nearest", "average" (moving averages), "unit" (directions), "gumbel" or
  # "finite".
  config.quantizer.name = "nearest"
  config.quantizer.num_codes = 1024
  config.quantizer.width = 256
  config.quantizer.beta = 0.25
  config.quantizer.legacy = False  # the authors: True
  config.quantizer.decay = 0.99  # of moving averages
  config.quantizer.seed_codebook = True  # the authors: U(+-1/num_codes)
  config.quantizer.restart = True  # the authors: False
  config.quantizer.dead_after = 100  # steps without use
  config.quantizer.kl_weight = 1e-8  # gumbel
  config.quantizer.temperature = ml_collections.ConfigDict()  # gumbel
  config.quantizer.temperature.start = 0.9
  config.quantizer.temperature.end = 1e-6
  config.quantizer.temperature.steps = 1_000_001  # 0: train.num_steps
  # finite: 64,000 codes; num_codes and width are then 0, for this decides.
  config.quantizer.levels = (8, 8, 8, 5, 5, 5)

  config.loss = ml_collections.ConfigDict()
  config.loss.pixel = "l1"  # or "l2"
  config.loss.perceptual = 1.0  # LPIPS; 0 needs no weights
  config.loss.lpips_backbone = ""  # files; fetched by default
  config.loss.lpips_heads = ""
  config.loss.codebook = 1.0

  config.adversary = ml_collections.ConfigDict()
  config.adversary.weight = 0.8  # 0 trains without a discriminator
  config.adversary.start = 250_001  # the step at which it begins to learn
  config.adversary.warmup = 0  # steps that the discriminator learns alone
  config.adversary.loss = "hinge"  # or "vanilla"
  config.adversary.channels = 64
  config.adversary.num_layers = 3
  config.adversary.same_forward = True  # the authors: False
  config.adversary.freeze_codebook = False
  config.adversary.augment = ()  # "color", "translation", "cutout"
  config.adversary.lecam = 0.0
  config.adversary.lecam_decay = 0.99  # of its running means of the logits
  config.adversary.r1 = 0.0
  config.adversary.r1_every = 16
  config.adversary.peak = 5.4e-5  # learning rate; 4.5e-6 x 12
  config.adversary.warmup_steps = 0  # of the rate, from `start` on
  config.adversary.schedule = "constant"  # others reach 0 at the last step

  # name, b1, b2, weight_decay and clip_norm (of each one's own gradient) are
  # of both optimisers; the rest is the autoencoder's.
  config.optimizer = ml_collections.ConfigDict()
  config.optimizer.name = "adam"
  config.optimizer.peak = 5.4e-5  # 4.5e-6 x 12
  config.optimizer.warmup_steps = 0
  config.optimizer.schedule = "constant"
  config.optimizer.final = 0.0  # of other schedules, a share of the peak
  config.optimizer.decay_steps = 0  # when they reach it; 0: at the end
  config.optimizer.b1 = 0.5
  config.optimizer.b2 = 0.9
  config.optimizer.weight_decay = 0.0
  config.optimizer.clip_norm = 0.0
  config.optimizer.ema_decay = 0.0  # 0 keeps no average

  # With `accumulate`, the discriminator's BatchNorm sees a piece of the batch
  # at a time: keep pieces of some rows over all devices.
  config.train = _sections.train(
    num_steps=1_000_000, batch_size=12, checkpoint_every=5000, remat=False
  )
  config.eval = _sections.evaluation(
    batch_size=16, num_examples=1024, metrics="fid,psnr,ssim"
  )

  config.sample = ml_collections.ConfigDict()  # pictures beside theirs
  config.sample.every = 5000
  config.sample.num = 8
  config.sample.batch = 8

  config.mesh = _sections.mesh(data=-1, fsdp=1)
  if form == "16384":
    config.quantizer.num_codes = 16_384
  elif form == "f8":
    config.model.multipliers = (1, 1, 2, 4)
    config.model.attention = (32,)
    config.quantizer.name = "gumbel"
    config.quantizer.num_codes = 8192
  if parts[:1] == [LEGACY]:
    _train_as_authors(config)
    parts.pop(0)
  return variant(config, ",".join(parts))


def _train_as_authors(config: ml_collections.ConfigDict) -> None:
  """Set what the code can do as the authors did.

  Still different: layers begin with Flax's initialisation, not PyTorch's, and
  the running statistics of the discriminator's BatchNorm move in its own pass
  only, in theirs also in the generator's.
  """
  config.data.flip = False
  # A Gumbel quantizer has no commitment to weigh.
  config.quantizer.legacy = config.quantizer.name == "nearest"
  config.quantizer.seed_codebook = False
  config.quantizer.restart = False
  config.adversary.same_forward = False
  config.train.dtype = "float32"


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
  config.data.num_measured = 64
  config.data.size = (32, 32)
  if config.data.num_labels:
    config.data.num_labels, config.data.label_shift = 25, 0
  model.channels, model.z_channels = 16, 16
  model.multipliers = (1, 2)
  model.num_blocks = 1
  model.attention = ()
  model.resolution = 32
  config.quantizer.num_codes = 64
  config.quantizer.width = 8
  config.quantizer.levels = (4, 4, 4)
  config.quantizer.temperature.steps = 60
  config.loss.perceptual = 0.0
  config.adversary.start = 40
  config.adversary.warmup = min(config.adversary.warmup, 10)
  config.adversary.channels, config.adversary.num_layers = 8, 1
  config.adversary.peak = config.optimizer.peak = 1e-3
  config.optimizer.warmup_steps = config.adversary.warmup_steps = 0
  config.optimizer.decay_steps = 0
  train.num_steps, train.batch_size = 60, 8
  train.log_every, train.checkpoint_every = 10, 30
  config.eval.every, config.eval.batch_size = 30, 16
  config.eval.num_examples = config.eval.scores.num = 16
  config.sample.every = 60
  config.sample.num = config.sample.batch = 8
