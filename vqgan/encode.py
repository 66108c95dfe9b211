"""Host-side preprocessing in TensorFlow: a record to one row of one size.

Each factory returns `encode(record, seed) -> row`, a function for
`data.pipeline`. A row (leading axis 1): image uint8 [1, h, w, c], or uint16
for depth, or segmentation uint8 [1, h, w] (see `frame.Frame`); label and
example_id int32 [1].
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from data import images
from vqgan import frame as frame_lib

Record = dict[str, tf.Tensor]
Encode = Callable[[Record, tf.Tensor], Record]


def make_train_encode(
  frame: frame_lib.Frame,
  fields: Sequence[str] = (),
  classes: frame_lib.Classes = frame_lib.ANY,
) -> Encode:
  """Build the training function: a random crop, mirrored at random.

  Args:
    frame: what to cut.
    fields: of `frame.FIELDS`, to be cut alike into the row: `image` uint8
      [1, h, w, 3], `segmentation` uint8 [1, h, w], `depth` uint16 [1, h, w],
      `keypoints` float32 [1, p, k, 3], not found where there is no figure, or
      `boxes` float32 [1, m, 4] with `box_labels` int32 [1, m], -1 where there
      is no box, and `crop` float32 [1, 4], in 0..1 of the picture; with these
      `box_flags` int32 [1, m].
    classes: of the field `segmentation`, whose labels stay as they are: a map
      that holds another, anywhere, is an error.

  Raises:
    ValueError: key points are to be mirrored.
  """
  frame_lib.check_flip(frame, fields)

  def encode(record, seed):
    seeds = tf.random.split(seed, 2)
    x = _resized(frame, _read(frame, record))
    spare = tf.shape(x)[:2] - tf.constant(frame.size)
    draw = tf.random.stateless_uniform([2], seeds[0])
    corner = tf.floor(draw * tf.cast(spare + 1, tf.float32))
    corner = tf.minimum(tf.cast(corner, tf.int32), spare)
    mirror = tf.constant(False)
    if frame.flip:
      mirror = tf.random.stateless_uniform([], seeds[1]) < 0.5
    place = _Place(tf.shape(x)[:2], corner, mirror)
    return _row(frame, record, x, place, fields, classes)

  return encode


def make_eval_encode(
  frame: frame_lib.Frame,
  fields: Sequence[str] = (),
  classes: frame_lib.Classes = frame_lib.ANY,
) -> Encode:
  """Build the evaluation function: the middle of the image."""

  def encode(record, seed):
    del seed
    x = _resized(frame, _read(frame, record))
    size = tf.shape(x)[:2]
    corner = (size - tf.constant(frame.size)) // 2
    place = _Place(size, corner, False)
    return _row(frame, record, x, place, fields, classes)

  return encode


def make_codes_encode(
  grid: tuple[int, int],
  fields: Sequence[str] = (),
  classes: frame_lib.Classes = frame_lib.ANY,
) -> Encode:
  """Build the function of records of codes: codes uint16 [1, h, w].

  Fields come as they lie on the disk, and as above. Training and evaluation
  are alike: mirror images are records of their own.
  """

  def encode(record, seed):
    del seed
    frame_lib.check_fields(fields, record, pictures=False)
    codes = tf.ensure_shape(record["codes"], grid)
    row = {"codes": codes[None], **_identity(record)}
    if "segmentation" in fields:
      _labels(classes, record)
    for name in fields:
      if name == "boxes":
        row |= _padded(record["boxes"], record, fields)
        row["crop"] = tf.ensure_shape(record["crop"], [4])[None]
      elif name == "crop":
        row["crop"] = tf.ensure_shape(record["crop"], [4])[None]
      elif name not in row:
        row[name] = record[name][None]
    return row

  return encode


class _Place(NamedTuple):
  """A crop: `size` of what it is cut from, its corner, whether mirrored."""

  size: tf.Tensor
  corner: tf.Tensor
  mirror: tf.Tensor | bool


def _read(frame, record):
  """Return what the frame is about, [h, w, c]."""
  if frame.target == "segmentation":
    return _labels(frame.classes, record)[..., None]
  if frame.target == "depth":
    depth = tf.cast(record["depth"], tf.float32)
    least, most = tf.reduce_min(depth), tf.reduce_max(depth)
    depth = (depth - least) / tf.maximum(most - least, 1.0) * 65535.0
    return depth[..., None]
  if frame.channels == 1:
    return tf.image.rgb_to_grayscale(record["image"])
  return record["image"]


def _labels(classes, record):
  """Return the labels [h, w], shifted; all of them are classes."""
  shift = tf.constant(classes.label_shift % 256, tf.uint8)
  x = record["segmentation"] + shift
  if classes.num_labels:
    most = tf.cast(tf.reduce_max(x), tf.int32)
    said = (record["example_id"], most)
    refusal = tf.strings.format(classes.beyond("{}", "{}"), said)
    tf.debugging.Assert(most < classes.num_labels, [refusal])
  return x


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


def _row(frame, record, x, place, fields, classes):
  frame_lib.check_fields(fields, record)
  row = {frame.input: _cut(frame, x, place)[None], **_identity(record)}
  for name in fields:
    if name == "boxes":
      row |= _boxes(frame, record, place, fields)
    elif name == "keypoints":
      row["keypoints"] = _keypoints(frame, record["keypoints"], place)[None]
    elif name == "crop":
      row["crop"] = _seen(frame, place)[None]
    elif name not in row:
      about = frame.about(name)
      if name == "segmentation":
        _labels(classes, record)  # checked only: its reader shifts them
      x = _cut(about, _resized(about, _read(about, record)), place)
      row[name] = x[None] if name != "depth" else x[None, ..., 0]
  return row


def _cut(frame, x, place):
  top, left = place.corner[0], place.corner[1]
  x = x[top : top + frame.size[0], left : left + frame.size[1]]
  if place.mirror is not False:
    uncut = x
    x = tf.cond(place.mirror, lambda: uncut[:, ::-1], lambda: uncut)
  if frame.target == "depth":
    x = tf.cast(x, tf.uint16)
  channels = 1 if frame.target != "image" else frame.channels
  x = tf.ensure_shape(x, [*frame.size, channels])
  return x[..., 0] if frame.target == "segmentation" else x


def _identity(record):
  return {
    "label": tf.reshape(record["label"], [1]),
    "example_id": tf.reshape(record["example_id"], [1]),
  }


def _boxes(frame, record, place, fields):
  """Return boxes within the crop, largest first, and the crop itself."""
  twice = lambda pair: tf.tile(tf.cast(pair, tf.float32), [2])
  size, start = twice(place.size), twice(place.corner)
  boxes = (record["boxes"] * size - start) / twice(frame.size)
  boxes = tf.clip_by_value(boxes, 0.0, 1.0)
  if place.mirror is not False:
    boxes = tf.where(place.mirror, _mirrored(boxes), boxes)
  area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
  order = tf.argsort(-area, stable=True)
  order = order[: tf.reduce_sum(tf.cast(area > 0, tf.int32))]
  told = {
    name: tf.gather(record[name], order) for name in frame_lib.of_boxes(fields)
  }
  padded = _padded(tf.gather(boxes, order), told, fields)
  return {**padded, "crop": _seen(frame, place)[None]}


def _keypoints(frame, points, place):
  """Return points [p, k, 3] in 0..1 of the crop, for MAX_FIGURES figures."""
  pair = lambda x: tf.cast(x, tf.float32)
  places = points[..., :2] * pair(place.size) - pair(place.corner)
  points = tf.concat([places / pair(frame.size), points[..., 2:]], -1)
  points = points[: frame_lib.MAX_FIGURES]
  spare = frame_lib.MAX_FIGURES - tf.shape(points)[0]
  points = tf.pad(points, [[0, spare], [0, 0], [0, 0]])
  return tf.ensure_shape(points, [frame_lib.MAX_FIGURES, None, 3])


def _seen(frame, place):
  """Return the crop [4] in 0..1 of the whole picture."""
  twice = lambda pair: tf.tile(tf.cast(pair, tf.float32), [2])
  start = twice(place.corner)
  crop = (start + tf.constant([0.0, 0.0, *frame.size])) / twice(place.size)
  if place.mirror is not False:
    crop = tf.where(place.mirror, _mirrored(crop), crop)
  return tf.ensure_shape(crop, [4])


def _mirrored(boxes):
  """Return boxes [..., 4] (top, left, bottom, right) of the mirror image."""
  top, left, bottom, right = (boxes[..., i] for i in range(4))
  return tf.stack([top, 1 - right, bottom, 1 - left], -1)


def _padded(boxes, told, fields):
  """Return MAX_BOXES boxes and what is told of each; label -1 is no box."""
  most = frame_lib.MAX_BOXES
  boxes = boxes[:most]
  spare = most - tf.shape(boxes)[0]
  boxes = tf.pad(boxes, [[0, spare], [0, 0]])
  row = {"boxes": tf.ensure_shape(boxes, [most, 4])[None]}
  for name, padding in frame_lib.of_boxes(fields).items():
    full = tf.pad(told[name][:most], [[0, spare]], constant_values=padding)
    row[name] = tf.ensure_shape(full, [most])[None]
  return row
