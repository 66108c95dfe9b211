"""DCTransformer: config sections to codec, plan, network, task and encoders.

Fields of `config.model` that 0 or -1 leaves to the data: `max_chunks` 0 takes
the measured chunk limit, `num_classes` -1 the number of classes of the dataset.
"""

import logging
from collections.abc import Callable, Iterable, Mapping

import jax
import ml_collections
import numpy as np

from dctransformer import arrays, chunks, dct, frame
from dctransformer import measure as measuring
from dctransformer import model as model_lib
from dctransformer import task as task_lib
from launch import classes, request
from launch.adapters import dctransformer_sampling, optimizers, precision
from layers import transformer
from training import sharding
from training import state as state_lib
from training import task as task_protocol

_logger = logging.getLogger(__name__)

_FIELDS = ("channel", "position", "value")
LIKELIHOOD = {
  "unmasked": (*(f"bits_{name}" for name in _FIELDS), "bits_charged"),
  "masked": (
    "bits_channel_masked",
    "bits_position_masked",
    "bits_value",
    "bits_charged",
  ),
}
RULE = sharding.FsdpRule()

SAMPLING = (
  "fields",
  "labels",
  "top_k",
  "top_p",
  "guidance",
  "size",
  "upsample",
  "colorize",
  "complete",
)
make_requested_sampler = dctransformer_sampling.make_sampler
illustrate = dctransformer_sampling.illustrate
check_source = classes.check
remarks = classes.remarks


def make_codec(config: ml_collections.ConfigDict) -> dct.Codec:
  """Makes the codec."""
  model = config.model
  return dct.Codec(
    block=model.block,
    quality=model.quality,
    rows=model.rows,
    cols=model.cols,
    order=model.order,
    max_value=model.max_value,
    table=model.table,
    upsampling=model.upsampling,
  )


def make_plan(
  config: ml_collections.ConfigDict, measured: Mapping[str, np.ndarray]
) -> chunks.Plan:
  """Makes the chunk plan."""
  model = config.model
  return chunks.Plan(
    chunk_len=model.chunk_len,
    overlap=model.overlap,
    max_chunks=model.max_chunks or int(measured["max_chunks"]),
    exponent=model.chunk_exponent,
    floor=model.chunk_floor,
  )


def make_model(
  config: ml_collections.ConfigDict, measured: Mapping[str, np.ndarray]
) -> model_lib.DCTransformer:
  """Makes the network."""
  model = config.model
  num_classes = model.num_classes
  if num_classes < 0:
    num_classes = int(measured["num_classes"])
  return model_lib.DCTransformer(
    codec=make_codec(config),
    plan=make_plan(config, measured),
    shape=transformer.Shape(
      width=model.width,
      num_heads=model.num_heads,
      dropout=model.dropout,
      gate=model.gate,
      dtype=precision.dtype(config.train.dtype),
      implementation=model.attention,
      remat=config.train.remat,
    ),
    layout=model_lib.Layout(
      encoder=tuple(model.encoder),
      channel=tuple(model.channel),
      position=tuple(model.position),
      value=tuple(model.value),
    ),
    num_classes=num_classes,
    stride=model.stride,
    kernel=model.kernel,
    class_scale=model.class_scale,
  )


def make_task(
  config: ml_collections.ConfigDict, measured: Mapping[str, np.ndarray]
) -> task_lib.DCTransformerTask:
  """Makes the task."""
  return task_lib.DCTransformerTask(
    model=make_model(config, measured),
    tx=optimizers.make(config),
    ema_decay=config.optimizer.ema_decay or None,
    accumulate=config.train.accumulate,
    class_drop=config.model.class_drop,
    weighted=config.train.weighted,
  )


def make_encode(
  config: ml_collections.ConfigDict,
  measured: Mapping[str, np.ndarray],
  use: str,
) -> Callable:
  """Makes the encode function of TensorFlow."""
  from dctransformer import encode

  return _make_encode(encode, config, measured, use)


def make_array_encode(
  config: ml_collections.ConfigDict,
  measured: Mapping[str, np.ndarray],
  use: str,
) -> Callable:
  """Makes the encode function of NumPy."""
  if use == "image":
    return _make_image_encode(config)
  return _make_encode(arrays, config, measured, use)


def _make_encode(factories, config, measured, use):
  codec = make_codec(config)
  fitted = {"resize": config.data.resize or None, "fit": config.data.fit}
  if use == "measure":
    return factories.make_list_encode(codec, **fitted)
  plan = make_plan(config, measured)
  if use == "eval":
    return factories.make_eval_encode(codec, plan, **fitted)
  return factories.make_train_encode(
    codec,
    plan,
    **fitted,
    flip=config.data.flip,
    chunks_per_image=rows_per_example(config),
  )


def _make_image_encode(config):
  """Makes the framed image on its canvas, uint8 [1, h, w, 3], and its size."""
  codec = make_codec(config)
  framing = frame.make(codec, config.data.resize or None, config.data.fit)
  canvas = (codec.rows * codec.block, codec.cols * codec.block)

  def encode(record, seed):
    del seed
    image, size = arrays.apply_frame(framing, record["image"])
    pad = [(0, most - side) for most, side in zip(canvas, image.shape)]
    return {"image": np.pad(image, (*pad, (0, 0)))[None], "size": size[None]}

  return encode


def rows_per_example(config: ml_collections.ConfigDict) -> int:
  """Returns the chunks that are drawn of each image."""
  return config.train.chunks_per_image


def measure(
  config: ml_collections.ConfigDict, batches: Iterable[Mapping]
) -> dict[str, np.ndarray]:
  """Measures deviations, sizes and lengths on whole lists."""
  found = measuring.measure(
    make_codec(config),
    batches,
    chunk_len=config.model.chunk_len,
    max_chunks=config.model.max_chunks,
  )
  _logger.info(
    "lists have %.0f elements on average; %.2g%% of the values are clipped, "
    "%.2g%% of the lists are cut",
    found["mean_length"],
    100 * found["clipped_fraction"],
    100 * found["truncated_fraction"],
  )
  return found


def most_measured(config: ml_collections.ConfigDict) -> int:
  """Returns how many whole lists are at most 256 MiB."""
  # Channel, position and value, int16, of every coefficient of the canvas.
  return max(1, 2**28 // (6 * make_codec(config).max_total))


def assumed(config: ml_collections.ConfigDict) -> dict[str, np.ndarray]:
  """Returns what a dataset of full canvases might give: every scale is 1."""
  codec = make_codec(config)
  # As dense as photographs at quality 75: a quarter of the coefficients.
  slots = codec.max_total // 4 + 1
  return {
    "channel_std": np.ones(codec.num_channels, np.float32),
    "sizes": np.array([[codec.rows, codec.cols]], np.int32),
    "size_counts": np.ones(1, np.int64),
    "max_chunks": np.int32(-(-slots // config.model.chunk_len)),
    "num_classes": np.int32(0),
  }


def make_sampler(
  config: ml_collections.ConfigDict,
  task: task_lib.DCTransformerTask,
  measured: Mapping[str, np.ndarray],
  key: jax.Array,
) -> Callable[[state_lib.State, np.ndarray], task_protocol.Samples]:
  """Makes the sampler of a run's own pictures: labels in turn."""
  asked = request.from_config(config)
  return make_requested_sampler(config, task, measured, key, asked)


def jpeg_quality(config: ml_collections.ConfigDict) -> int:
  """Returns the quality of the codec's tables."""
  return config.model.quality
