"""SUNDAE: config sections to hourglass, task and encoders.

`config.model.num_classes` -1 takes the number of classes of the dataset.
"""

from collections.abc import Iterable, Mapping

import ml_collections
import numpy as np

from evaluation import likelihood
from launch import classes, denoising_flags, errors, flags
from launch.adapters import codes, optimizers, precision, sundae_sampling
from layers import transformer
from sundae import model as model_lib
from sundae import task as task_lib
from training import optimizer, sharding

LIKELIHOOD: Mapping[str, tuple[str, ...]] = {}  # there is none: see `rates`
RULE = sharding.FsdpRule()

check = codes.check
check_source = classes.check
remarks = codes.remarks
make_encode = codes.make_encode
make_array_encode = codes.make_array_encode
rows_per_example = codes.rows_per_example
make_sampler = sundae_sampling.make_sampler
make_requested_sampler = sundae_sampling.make_requested_sampler
decode_history = sundae_sampling.decode_history

SAMPLING = (
  "labels",
  "top_k",
  "top_p",
  "guidance",
  "size",
  *denoising_flags.NAMES,
)

# Sums of `eval_step` and what they are a code; as in training.
_RATES = {"nats": "nats_per_code", "right": "right_fraction"}
# Which parameters decay.
_DECAYS = {"kernels": optimizer.kernels, "all": optimizer.everything}
_EPSILON = 1e-5  # of the released LayerNorms


def make_model(
  config: ml_collections.ConfigDict,
  measured: Mapping[str, np.ndarray],
  grid: tuple[int, int],
  num_codes: int,
) -> model_lib.Hourglass:
  """Makes the network over a grid of codes."""
  options = config.model
  num_classes = options.num_classes
  if num_classes < 0:
    num_classes = int(measured["num_classes"])
  return model_lib.Hourglass(
    grid=grid,
    num_codes=num_codes,
    shape=transformer.Shape(
      width=options.width,
      num_heads=options.heads,
      head_width=options.head_width,
      gate=None,
      qkv_bias=False,
      epsilon=_EPSILON,
      dtype=precision.dtype(config.train.dtype),
      implementation=options.attention,
      remat=config.train.remat,
    ),
    num_classes=num_classes,
    layers=tuple(options.layers),
    factors=tuple(tuple(factor) for factor in options.factors),
    resampling=options.resampling,
    places=options.get("places", "corners"),  # older runs have no other
    reference=options.reference,
  )


def make_task(
  config: ml_collections.ConfigDict, measured: Mapping[str, np.ndarray]
) -> task_lib.SundaeTask:
  """Makes the task."""
  coder = codes.make_tokenizer(config, measured)
  decays = config.optimizer.get("decays", "kernels")
  if decays not in _DECAYS:
    raise errors.CommandError(
      f"no optimizer.decays {decays!r}{flags.did_you_mean(decays, _DECAYS)}"
    )
  return task_lib.SundaeTask(
    model=make_model(config, measured, coder.grid, coder.num_codes),
    tokenizer=coder,
    tx=optimizers.make(config, decay_mask=_DECAYS[decays]),
    unrolls=config.train.unrolls,
    ema_decay=config.optimizer.ema_decay or None,
    accumulate=config.train.accumulate,
    class_drop=config.model.class_drop,
    from_codes=config.data.source == "codes",
  )


def rates(sums: likelihood.Sums) -> dict[str, float]:
  """Returns, by unroll, what denoising costs and the share it gets right.

  It is no likelihood, so it is neither an image's nor a pixel's.
  """
  totals = sums.totals()
  found = {}
  for name, total in totals.items():
    kind, _, unroll = name.partition("_unroll_")
    if kind in _RATES:
      found[f"{_RATES[kind]}_unroll_{unroll}"] = total / totals["elements"]
  return found


def measure(
  config: ml_collections.ConfigDict, batches: Iterable[Mapping]
) -> dict[str, np.ndarray]:
  """Loads the first stage."""
  return codes.measure(config, batches)


def assumed(config: ml_collections.ConfigDict) -> dict[str, np.ndarray]:
  """Returns a blank first stage, and a dataset without classes."""
  return {**codes.assumed(config), "num_classes": np.int32(0)}
