"""Sections that the bases of all families have in common; no experiment."""

from collections.abc import Callable

import ml_collections


def train(
  *, num_steps: int, batch_size: int, checkpoint_every: int, remat: bool
) -> ml_collections.ConfigDict:
  """Return the section of the loop."""
  section = ml_collections.ConfigDict()
  section.num_steps = num_steps
  section.batch_size = batch_size
  section.accumulate = 1
  section.dtype = "auto"  # bfloat16 on accelerators, float32 on CPUs
  section.remat = remat
  section.log_every = 100
  section.checkpoint_every = checkpoint_every
  section.keep = 3
  section.best = ""  # such as "eval/bits_per_element": keeps the lowest, too
  section.on_nan = "stop"  # or "skip", "rollback"
  return section


def evaluation(
  *, batch_size: int, num_examples: int, metrics: str
) -> ml_collections.ConfigDict:
  """Return the section of what a run measures of itself.

  `metrics` are those of `scores`: of samples "fid", "sfid", "is", "kid",
  "precision_recall", "density_coverage", with commas; of reconstructions
  "fid", "psnr", "ssim", "lpips", "edges".
  """
  section = ml_collections.ConfigDict()
  section.every = 10_000
  section.batch_size = batch_size
  section.num_examples = num_examples
  section.scores = ml_collections.ConfigDict()
  section.scores.every = 0  # steps; 0 scores nothing
  section.scores.num = 5000  # samples or reconstructions: fid_adm_5k
  section.scores.batch = 64  # images at a time through Inception, a process
  section.scores.inception = ""  # its file; the public one by default
  section.scores.reference = ""  # statistics; by default of the training split
  section.scores.preprocess = "adm"  # or "pytorch_fid", "clean"
  section.scores.metrics = metrics
  return section


def sample(*, top_k: int = 0) -> ml_collections.ConfigDict:
  """Return the section of the samples that a run shows of itself."""
  section = ml_collections.ConfigDict()
  section.every = 10_000
  section.num = 16
  section.batch = 16
  section.temperature = 1.0
  section.top_k = top_k  # 0 keeps all
  section.top_p = 1.0  # 1 keeps all
  section.guidance = 1.0  # other values need class_drop above 0
  return section


def mesh(*, data: int, fsdp: int) -> ml_collections.ConfigDict:
  """Return the section of the mesh; -1 takes the rest of the devices."""
  section = ml_collections.ConfigDict()
  section.data = data
  section.fsdp = fsdp
  section.tensor = 1
  return section


def variant(
  config: ml_collections.ConfigDict,
  arg: str,
  shrink: Callable[[ml_collections.ConfigDict], None],
) -> ml_collections.ConfigDict:
  """Return the config itself for "", made small by `shrink` for "tiny".

  Raises:
    ValueError: any other arg.
  """
  if arg == "tiny":
    shrink(config)
  elif arg:
    raise ValueError(f'config argument "{arg}" must be "tiny" or absent')
  return config


def first_stage(
  config: ml_collections.ConfigDict,
) -> ml_collections.ConfigDict:
  """Return what decides the codes of a vqgan_* config."""
  like = ml_collections.ConfigDict()
  like.task = config.task  # or "palette", of num_codes colours, or "pixels"
  like.num_codes = config.quantizer.num_codes
  names = ("channels", "target", "num_labels", "label_shift")
  like.data = ml_collections.ConfigDict({x: config.data[x] for x in names})
  like.model = config.model
  like.quantizer = config.quantizer
  return like
