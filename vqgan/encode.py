"""Host-side preprocessing in TensorFlow: a record to one row of one size.

Each factory returns `encode(record, seed) -> row`, a function for
`data.pipeline`. A row (leading axis 1): image uint8 [1, h, w, c], or uint16
for depth, or segmentation uint8 [1, h, w] (see `frame.Frame`); label and
example_id int32 [1].
"""

from collections.abc import Callable

import tensorflow as tf

from data import images
from vqgan import frame as frame_lib

Record = dict[str, tf.Tensor]
Encode = Callable[[Record, tf.Tensor], Record]


def make_train_encode(frame: frame_lib.Frame) -> Encode:
  """Build the training function: a random crop, mirrored at random."""

  def encode(record, seed):
    seeds = tf.random.split(seed, 2)
    x = _resized(frame, _read(frame, record))
    x = images.random_crop(x, seeds[0], *frame.size)
    if frame.flip:
      x = images.random_flip(x, seeds[1])
    return _row(frame, record, x)

  return encode


def make_eval_encode(frame: frame_lib.Frame) -> Encode:
  """Build the evaluation function: the middle of the image."""

  def encode(record, seed):
    del seed
    x = _resized(frame, _read(frame, record))
    return _row(frame, record, images.center_crop(x, *frame.size))

  return encode


def _read(frame, record):
  """Return what the frame is about, [h, w, c]."""
  if frame.target == "segmentation":
    return record["segmentation"][..., None] + tf.constant(
      frame.label_shift % 256, tf.uint8
    )
  if frame.target == "depth":
    depth = tf.cast(record["depth"], tf.float32)
    least, most = tf.reduce_min(depth), tf.reduce_max(depth)
    depth = (depth - least) / tf.maximum(most - least, 1.0) * 65535.0
    return depth[..., None]
  if frame.channels == 1:
    return tf.image.rgb_to_grayscale(record["image"])
  return record["image"]


def _resized(frame, x):
  shape = tf.cast(tf.shape(x)[:2], tf.float64)
  least = tf.constant(frame.size, tf.int32)
  cover = tf.reduce_max(tf.cast(least, tf.float64) / shape)
  scale = cover * frame.zoom if frame.zoom else tf.maximum(cover, 1.0)
  size = tf.maximum(tf.cast(shape * scale + 0.5, tf.int32), least)
  if frame.target == "image":
    return images.resize(x, size[0], size[1])
  method = "nearest" if frame.target == "segmentation" else "bilinear"
  x = tf.image.resize(x, size, method, antialias=frame.target == "depth")
  return x if frame.target == "segmentation" else tf.round(x)


def _row(frame, record, x):
  if frame.target == "depth":
    x = tf.cast(x, tf.uint16)
  channels = 1 if frame.target != "image" else frame.channels
  x = tf.ensure_shape(x, [*frame.size, channels])
  if frame.target == "segmentation":
    x = x[..., 0]
  return {
    frame.input: x[None],
    "label": tf.reshape(record["label"], [1]),
    "example_id": tf.reshape(record["example_id"], [1]),
  }
