"""The authors' stages as configs of ours: numbers of a yaml, fields of a run.

The base is the config of the paper's ImageNet runs. What the authors did
otherwise than we would is kept, so that training goes on as theirs did: the
legacy codebook loss, a discriminator that sees reconstructions by the updated
autoencoder, no mirror images, a constant rate without warm-up, no average of
parameters.
"""

from typing import Any

import ml_collections

from launch import first_stages, flags
from vqgan import taming, taming_prior

TOKENIZER, CONDITION = "tokenizer", "condition"  # files in the directory
_UNLABELLED_FIRST = 183  # COCO-Stuff: their class 0 is our label 255
# Steps before a discriminator that is new learns.
_NEW_CRITIC_START = 10_000
_QUANTIZERS = {"Gumbel": "gumbel", "Nearest": "nearest"}


def first_stage(
  stage: taming.FirstStage,
  depth: bool,
  perceptual: bool,
  steps: int | None = None,
) -> ml_collections.ConfigDict:
  """Returns the config of a run that goes on training a first stage.

  Args:
    stage: the authors' settings.
    depth: whether its images are depth maps.
    perceptual: whether the weights of LPIPS are there.
    steps: that the authors trained it for, None where nothing says it.
  """
  config = _base("configs/vqgan_imagenet.py")
  shape, module, loss = stage.shape, stage.quantizer, stage.loss
  labels = stage.target == "segmentation"
  data, model = config.data, config.model
  data.size = (shape.resolution, shape.resolution)
  data.target, data.flip = stage.target, False
  if labels:
    data.num_labels = shape.in_channels
    data.label_shift = int(shape.in_channels == _UNLABELLED_FIRST)
  elif depth:
    data.target = "depth"
  else:
    data.channels = shape.in_channels
  for name in (
    "channels",
    "multipliers",
    "num_blocks",
    "attention",
    "resolution",
    "z_channels",
    "dropout",
    "norm_groups",
    "norm_least",
  ):
    model[name] = getattr(shape, name)
  codes = config.quantizer
  codes.name = _QUANTIZERS[type(module).__name__]
  if getattr(module, "average", False):
    codes.name = "average"
  codes.num_codes, codes.width = module.num_codes, module.width
  codes.legacy = getattr(module, "legacy", False)
  codes.restart = codes.seed_codebook = False
  if codes.name == "gumbel":
    codes.kl_weight = float(module.kl_weight)
  config.loss.codebook = float(loss.get("codebook_weight", 1.0))
  weight = float(loss.get("perceptual_weight", 1.0))
  config.loss.perceptual = weight if perceptual and not labels else 0.0
  _adversary(config, stage, steps)
  rate = stage.learning_rate(config.train.batch_size)
  config.optimizer.peak = config.adversary.peak = rate
  return config


def second_stage(
  stage: taming_prior.SecondStage,
  first: ml_collections.ConfigDict,
  condition: ml_collections.ConfigDict | None,
) -> ml_collections.ConfigDict:
  """Returns the config of a run that goes on training a prior.

  Args:
    stage: the authors' settings.
    first: config of the images' first stage, from `first_stage`.
    condition: that of the condition's.
  """
  config = _base("configs/prior_imagenet.py")
  config.data.size = first.data.size
  config.tokenizer.like = first_stages.reduced(first)
  options, model = config.condition, config.model
  points = stage.kind == "points"
  if stage.kind not in ("none", "class"):
    options.kind = "boxes" if points else stage.kind
  if stage.kind in ("boxes", "points"):
    options.points, options.vocabulary = points, stage.vocabulary
    options.least = 2  # of all their configs
    # How many categories they had is not in their files: all that fit.
    options.num_labels = stage.vocabulary - 1
  if stage.kind == "keypoints":
    options.skeleton = "openpose18"
  options.levels = stage.levels
  if condition is not None:
    options.stage.like = first_stages.reduced(condition)
    options.num_labels = condition.data.num_labels
    options.label_shift = condition.data.label_shift
  for name in (
    "layers",
    "width",
    "heads",
    "length",
    "order",
    "num_classes",
    "n_unmasked",
    "dropout",
  ):
    model[name] = getattr(stage, name)
  model.pkeep = float(stage.pkeep)
  model.classes, model.shared, model.class_drop = "token", True, 0.0
  optimizer = config.optimizer
  optimizer.peak = stage.learning_rate(config.train.batch_size)
  optimizer.schedule, optimizer.warmup_steps = "constant", 0
  optimizer.clip_norm = optimizer.ema_decay = 0.0
  return config


def _adversary(
  config: Any, stage: taming.FirstStage, steps: int | None
) -> None:
  """Fills the section of the discriminator, which may have to be a new one."""
  options, loss = config.adversary, stage.loss
  if loss:  # what their loss takes where a yaml leaves it out
    weight = float(loss.get("disc_weight", 1.0))
    options.weight = weight * float(loss.get("disc_factor", 1.0))
  options.loss = loss.get("disc_loss", "hinge")
  options.same_forward = False
  options.start = _NEW_CRITIC_START
  if stage.critic is not None:
    options.channels = stage.critic.channels
    options.num_layers = stage.critic.num_layers
    left = int(loss.get("disc_start", 0)) - steps if steps is not None else 0
    options.start = max(0, left)
  if stage.target == "segmentation":
    options.weight = 0.0


def _base(name: str) -> ml_collections.ConfigDict:
  """Loads a config that ships, to be changed."""
  config = flags.load(name).copy_and_resolve_references()
  config.unlock()
  return config
