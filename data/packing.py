"""Records as columns of strings and numbers, to cross into TensorFlow.

A decoded array travels as its bytes beside its shape; encoded bytes have the
shape 0. Letters: `k` records that are read together.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from data import images, records
from data import source as source_lib

# Eight bits; grey or RGB: what TensorFlow decodes as Pillow does.
_PLAIN_PNG = (b"\x08\x00", b"\x08\x02")
# Of maps: grey of eight or of sixteen bits.
_PLAIN_MAP = (b"\x08\x00", b"\x10\x00")
_PNG = b"\x89PNG\r\n\x1a\n"

Example = dict[str, tf.Tensor]


class Packing:
  """Turns records of a reader into tensors, and back into images.

  An example has `data` (string) and `shape` (int32 [3]) of the image, `label`,
  `example_id` (the dataset index), `wanted` (the index that was asked for;
  another one where a stand-in took its place), `seed` (int32 [2]), and for
  each field its bytes and shape. Without pictures, `data` is empty.

  Attributes:
    pictures: whether there are any.
  """

  def __init__(self, reader: records.Reader):
    self._reader = reader
    self.pictures = source_lib.has_pictures(reader.source)
    self._fields = tuple(reader.source.fields)
    names = ["data", *self._fields]
    self._specs = {name: (tf.string, []) for name in names}
    self._specs |= {_shape(name): (tf.int32, [3]) for name in names}
    self._specs |= {
      "label": (tf.int32, []),
      "example_id": (tf.int32, []),
      "wanted": (tf.int32, []),
    }

  def read(self, schedule, chunk: tf.Tensor) -> Example:
    """Read a chunk, in Python: columns [k, ...].

    schedule: chunk number -> indices [k], their seeds int32 [k, 2]. What
    TensorFlow cannot decode comes decoded.
    """

    def call(chunk):
      indices, seeds = schedule(int(chunk))
      found = self._reader.read(indices)
      for i, record in enumerate(found if self.pictures else ()):
        if not _is_fast(record):
          found[i] = self._reader.decode(record)
      return [*self._columns(found, indices), seeds]

    return self._call(call, [chunk], [None])

  def repaired(self, example: Example) -> Example:
    """Decode with Pillow, or take the stand-in; the result has its `image`."""

    def call(index, wanted, seed):
      (record,) = self._reader.read([int(index)])
      columns = self._columns([self._reader.decode(record)], [wanted])
      return [*(column[0] for column in columns), seed]

    arguments = [example[k] for k in ("example_id", "wanted", "seed")]
    fresh = self._call(call, arguments, [])
    return {**fresh, "image": raw_image(fresh)}

  def has_broken_map(self, example: Example) -> tf.Tensor:
    """Whether one of its maps cannot be decoded, a bool."""
    broken = tf.constant(False)
    for name in source_lib.MAPS:
      if name in self._fields:
        broken |= _is_broken(name, example)
    return broken

  def record(self, example: Example) -> dict[str, tf.Tensor]:
    """What a model's encode gets of an example, which has its `image` if any.

    Fields that it makes no use of are never decoded: TensorFlow prunes them.
    """
    names = ["image"] * self.pictures + ["label", "example_id"]
    record = {name: example[name] for name in names}
    return record | {name: _field(name, example) for name in self._fields}

  def _columns(self, found: list[dict[str, Any]], wanted) -> list[np.ndarray]:
    dtypes = {"data": np.uint8}
    dtypes |= {name: source_lib.FIELDS[name][0] for name in self._fields}
    columns, shapes = [], []
    for name, dtype in dtypes.items():
      key = "image" if name == "data" else name
      values = [record.get(key, b"") for record in found]
      packed = [_packed(value, dtype) for value in values]
      columns.append(np.array([data for data, _ in packed], object))
      shapes.append(np.array([shape for _, shape in packed], np.int32))
    numbers = [[r["label"] for r in found], [r["index"] for r in found], wanted]
    return columns + shapes + [np.array(n, np.int32) for n in numbers]

  def _call(self, function, arguments, lead):
    specs = self._specs | {"seed": (tf.int32, [2])}
    columns = tf.numpy_function(
      function, arguments, [dtype for dtype, _ in specs.values()]
    )
    for column, (_, shape) in zip(columns, specs.values()):
      column.set_shape(lead + shape)
    return dict(zip(specs, columns))


def decode(example: Example, careful: bool) -> tf.Tensor:
  """Decode the image, [h, w, 3]; with `careful`, [0, 0, 3] where it fails."""
  opened = images.decode if careful else images.decode_or_fail
  return tf.cond(
    example["shape"][0] > 0,
    lambda: raw_image(example),
    lambda: opened(example["data"]),
  )


def raw_image(example: Example) -> tf.Tensor:
  """The image of an example that came decoded, [h, w, 3]."""
  image = tf.io.decode_raw(example["data"], tf.uint8)
  image = tf.reshape(image, example["shape"])
  return tf.ensure_shape(image, [None, None, 3])


def _shape(name):
  return "shape" if name == "data" else f"{name}_shape"


def _field(name, example):
  """Decode one of source.FIELDS."""
  dtype = tf.as_dtype(source_lib.FIELDS[name][0])
  data, shape = example[name], example[_shape(name)]
  if name == "boxes":
    return tf.reshape(tf.io.decode_raw(data, dtype), [-1, 4])
  if name == "keypoints":
    return tf.reshape(tf.io.decode_raw(data, dtype), shape)
  if name in ("box_labels", "box_flags", "crop"):
    return tf.io.decode_raw(data, dtype)
  raw = lambda: tf.reshape(tf.io.decode_raw(data, dtype), shape)
  png = lambda: tf.io.decode_png(data, 1, dtype)
  return tf.cond(shape[0] > 0, raw, png)[..., 0]


def _is_broken(name, example):
  """Whether a map that comes as a file cannot be decoded."""
  dtype = tf.as_dtype(source_lib.FIELDS[name][0])
  return tf.cond(
    example[_shape(name)][0] > 0,
    lambda: False,
    lambda: tf.equal(tf.size(images.decode_map(example[name], dtype)), 0),
  )


def _packed(value, dtype):
  """Bytes, and their shape, three numbers: 0 where the bytes are encoded."""
  if isinstance(value, bytes):
    return value, (0, 0, 0)
  value = np.ascontiguousarray(value, dtype)
  return value.tobytes(), (*value.shape, 1, 1)[:3]


def _is_fast(record):
  """Whether TensorFlow takes it, and sees in it what Pillow would."""
  maps = (record[name] for name in source_lib.MAPS if name in record)
  return _is_fast_image(record["image"]) and all(map(_is_fast_map, maps))


def _is_fast_map(values):
  if isinstance(values, np.ndarray):
    return True
  return values[:8] == _PNG and values[24:26] in _PLAIN_MAP


def _is_fast_image(image):
  if isinstance(image, np.ndarray):
    return image.ndim == 3 and image.shape[-1] == 3 and image.size > 0
  if image[:3] == b"\xff\xd8\xff":
    return True
  plain = image[:8] == _PNG and image[24:26] in _PLAIN_PNG
  return plain and b"tRNS" not in image[:1024]
