"""VQGAN's first stage: config sections to autoencoder, losses and encoders."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from data import arrays as batches_lib
from launch import datasets
from launch.adapters import optimizers, precision, vqgan_options
from training import sharding
from training import state as state_lib
from training import task as task_protocol
from vqgan import adversary, arrays, autoencoder, discriminator, quantizer
from vqgan import frame as frame_lib
from vqgan import task as task_lib
from weights import backbones, lpips

# There is no likelihood: the means of `eval_step` an image.
LIKELIHOOD = {"reconstruction": ()}
RULE = sharding.FsdpRule()

QUANTIZERS = ("nearest", "average", "unit", "gumbel", "finite")

remarks = vqgan_options.remarks
rates_an_image = optimizers.rates_an_image


def make_frame(config: ml_collections.ConfigDict) -> frame_lib.Frame:
  """Makes the part of an image that the model sees."""
  data = config.data
  return frame_lib.Frame(
    size=tuple(data.size),
    zoom=data.zoom,
    flip=data.flip,
    target=data.target,
    channels=data.channels,
    label_shift=data.label_shift,
    num_labels=data.num_labels,
  )


def make_quantizer(config: ml_collections.ConfigDict) -> Any:
  """Makes the quantizer.

  Raises:
    ValueError: an unknown name.
  """
  options = config.quantizer
  name = options.name
  if name not in QUANTIZERS:
    raise ValueError(
      f"quantizer.name {name!r} must be one of {', '.join(QUANTIZERS)}"
    )
  alive = {"dead_after": options.dead_after}
  if name == "finite":
    return quantizer.Finite(tuple(options.levels), **alive)
  sizes = (options.num_codes, options.width)
  alive["restart"] = options.restart
  if name == "gumbel":
    return quantizer.Gumbel(*sizes, kl_weight=options.kl_weight, **alive)
  return quantizer.Nearest(
    *sizes,
    beta=options.beta,
    legacy=options.legacy,
    unit=name == "unit",
    average=name == "average",
    decay=options.decay,
    **alive,
  )


def make_model(config: ml_collections.ConfigDict) -> autoencoder.Autoencoder:
  """Makes the autoencoder.

  Raises:
    ValueError: numbers that contradict each other or the target.
  """
  vqgan_options.check(config)
  model, data = config.model, config.data
  in_channels = {
    "image": data.channels,
    "segmentation": data.num_labels,
    "depth": 1,
  }
  shape = autoencoder.Shape(
    channels=model.channels,
    multipliers=tuple(model.multipliers),
    num_blocks=model.num_blocks,
    attention=tuple(model.attention),
    resolution=model.resolution,
    in_channels=in_channels[make_frame(config).target],
    z_channels=model.z_channels,
    dropout=model.dropout,
    norm_groups=model.norm_groups,
    norm_least=model.norm_least,
    remat=config.train.remat,
  )
  return autoencoder.Autoencoder(
    shape, make_quantizer(config), precision.dtype(config.train.dtype)
  )


def make_adversary(
  config: ml_collections.ConfigDict,
) -> adversary.Adversary | None:
  """Makes the discriminator's side; None where its weight is 0."""
  options = config.adversary
  if not options.weight:
    return None
  critic = discriminator.Discriminator(
    options.channels, options.num_layers, precision.dtype(config.train.dtype)
  )
  return adversary.Adversary(
    critic,
    weight=options.weight,
    start=options.start,
    warmup=options.warmup,
    loss=options.loss,
    same_forward=options.same_forward,
    freeze_codebook=options.freeze_codebook,
    augment=tuple(options.augment),
    lecam=options.lecam,
    lecam_decay=options.get("lecam_decay", 0.99),  # older runs lack the field
    r1=options.r1,
    r1_every=options.r1_every,
  )


def make_task(
  config: ml_collections.ConfigDict, measured: Mapping[str, np.ndarray]
) -> task_lib.VQGANTask:
  """Makes the task."""
  del measured  # it goes to `init`
  num_steps = config.train.num_steps
  model = make_model(config)
  critic, critic_tx = make_adversary(config), None
  if critic is not None:
    least = config.adversary.warmup_steps + 1
    critic_tx = optimizers.make(
      config,
      final=0.0,
      peak=config.adversary.peak,
      schedule=config.adversary.schedule,
      warmup_steps=config.adversary.warmup_steps,
      total_steps=max(num_steps - critic.start, least),
    )
  gumbel = config.quantizer.temperature
  return task_lib.VQGANTask(
    model=model,
    size=tuple(config.data.size),
    tx=optimizers.make(
      config, total_steps=config.optimizer.decay_steps or num_steps
    ),
    target="segmentation" if _labels(config) else "image",
    pixel=config.loss.get("pixel", "l1"),  # runs from before it was a field
    perceptual=config.loss.perceptual,
    codebook_weight=config.loss.codebook,
    adversary=critic,
    adversary_tx=critic_tx,
    temperature=(gumbel.start, gumbel.end, gumbel.steps or num_steps),
    seed_codebook=config.quantizer.seed_codebook,
    ema_decay=config.optimizer.ema_decay or None,
    accumulate=config.train.accumulate,
    bits=16 if config.data.target == "depth" else 8,
  )


def check_training(
  config: ml_collections.ConfigDict, task: task_lib.VQGANTask
) -> None:
  """Refuses a discriminator that has no logit for the images.

  Raises:
    ValueError: in one line, with the remedy.
  """
  if task.adversary is not None:
    size = tuple(config.data.size)
    task.adversary.check(size, task.model.shape.in_channels)


def make_encode(
  config: ml_collections.ConfigDict,
  measured: Mapping[str, np.ndarray],
  use: str,
) -> Callable:
  """Makes the encode function of TensorFlow."""
  del measured
  from vqgan import encode

  frame = make_frame(config)
  if use == "train":
    return encode.make_train_encode(frame)
  return encode.make_eval_encode(frame)


def make_array_encode(
  config: ml_collections.ConfigDict,
  measured: Mapping[str, np.ndarray],
  use: str,
) -> Callable:
  """Makes the encode function of NumPy."""
  del measured
  frame = make_frame(config)
  if use == "image":
    return arrays.make_picture_encode(frame)
  if use == "train":
    return arrays.make_train_encode(frame)
  return arrays.make_eval_encode(frame)


def rows_per_example(config: ml_collections.ConfigDict) -> int:
  """Returns 1: an image is a row."""
  del config
  return 1


def measure(
  config: ml_collections.ConfigDict, batches: Iterable[Mapping]
) -> dict[str, np.ndarray]:
  """Keeps the images that seed the codebook, and fetches LPIPS."""
  measured = {}
  if config.loss.perceptual:  # first, because it may be missing
    paths = config.loss.lpips_backbone, config.loss.lpips_heads
    params = lpips.load("vgg", *(path or None for path in paths))
    measured = task_lib.lpips_arrays(params)
  if config.quantizer.seed_codebook:
    measured |= make_task(config, {}).measure(batches)
  return measured


def assumed(config: ml_collections.ConfigDict) -> dict[str, np.ndarray]:
  """Returns blank seeds, and blank weights of LPIPS."""
  task = make_task(config, {})
  measured = {}
  if config.loss.perceptual:
    measured = task_lib.lpips_arrays(_blank_lpips())
  if config.quantizer.seed_codebook:
    rows = task.batch_spec(1)[task.input]
    batch = {task.input: np.zeros(rows.shape, rows.dtype)}
    measured |= task.measure([batch])
  return measured


def exported(
  config: ml_collections.ConfigDict,
  measured: Mapping[str, np.ndarray],
  state: state_lib.State,
) -> tuple[
  ml_collections.ConfigDict, Mapping[str, np.ndarray], state_lib.State
]:
  """Returns what encodes and decodes: the autoencoder, without its losses."""
  del measured
  with config.unlocked():
    config = config.copy_and_resolve_references()
    config.adversary.weight = config.loss.perceptual = 0.0
    config.quantizer.seed_codebook = False
  generator = state.sampling_params["generator"]
  state = state.replace(
    params={"generator": generator}, ema=None, model_state={}, frozen={}
  )
  return config.lock(), {}, state


def make_sampler(
  config: ml_collections.ConfigDict,
  task: task_lib.VQGANTask,
  measured: Mapping[str, np.ndarray],
  key: jax.Array,
) -> Callable[[state_lib.State, np.ndarray], task_protocol.Samples]:
  """Makes the pictures of a run: images and, to their right, what is made.

  They are images of the evaluation split, evenly spaced over it.
  """
  del measured, key
  rows = {}

  def read(num):
    source = datasets.open_source(config, config.data.eval_split)
    encode = arrays.make_eval_encode(make_frame(config))
    found = batches_lib.eval_batches(
      source, encode, batch_size=config.sample.batch, limit=num
    )
    return np.concatenate([batch[task.input] for batch in found])

  @jax.jit
  def reconstruct(state, batch):
    original = task.picture(task.pixels(batch))
    made = task.reconstruct(state, batch)
    return jnp.concatenate([original, made], axis=2)  # [b, h, 2w, 3]

  def sample(state, indices):
    if not rows:
      rows[task.input] = read(config.sample.num)
    chosen = np.minimum(indices, len(rows[task.input]) - 1)
    images = reconstruct(state, {task.input: rows[task.input][chosen]})
    sizes = np.tile(np.int32(images.shape[1:3]), (len(indices), 1))
    return task_protocol.Samples(images, sizes, tokens=(), info={})

  return sample


def _blank_lpips():
  _, channels = backbones.NETWORKS["vgg"]
  blank = lambda shape: np.zeros(shape, np.float32)
  return lpips.convert(
    "vgg",
    {name: blank(shape) for name, shape in backbones.shapes("vgg").items()},
    {
      f"lin{i}.model.1.weight": blank((1, c, 1, 1))
      for i, c in enumerate(channels)
    },
  )


def _labels(config):
  return config.data.target == "segmentation"
