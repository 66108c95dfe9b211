"""Decoding, resizing and cropping in TensorFlow; uint8 [h, w, c] in and out.

All functions work inside `tf.data.Dataset.map`, on images of unknown size.
"""

import tensorflow as tf


def decode(data: tf.Tensor) -> tf.Tensor:
  """Decode JPEG or PNG bytes to [h, w, 3], or to [0, 0, 3] where that fails.

  An op that fails would end the whole pipeline. Here it fails inside a
  one-element dataset of its own, which then turns out empty.
  """
  return _or_nothing(decode_or_fail, data, tf.zeros([0, 0, 3], tf.uint8))


def decode_map(data: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
  """Decode PNG bytes to `dtype` [h, w, 1], or to [0, 0, 1] where that fails."""
  png = lambda data: tf.io.decode_png(data, 1, dtype)
  return _or_nothing(png, data, tf.zeros([0, 0, 1], dtype))


def _or_nothing(function, data, nothing):
  found = tf.data.Dataset.from_tensors(data).map(function).ignore_errors()
  found = found.concatenate(tf.data.Dataset.from_tensors(nothing))
  return found.take(1).get_single_element()


def decode_or_fail(data: tf.Tensor) -> tf.Tensor:
  """Decode JPEG or PNG bytes to [h, w, 3].

  The accurate transform makes it agree with Pillow. The op reads PNG as well.
  """
  image = tf.io.decode_jpeg(data, 3, dct_method="INTEGER_ACCURATE")
  return tf.ensure_shape(image, [None, None, 3])


def resize(
  image: tf.Tensor, height: int, width: int, method: str = "bicubic"
) -> tf.Tensor:
  """Resize to [height, width, c], antialiased.

  `method` is one of tf.image.ResizeMethod.
  """
  size = [height, width]

  def resized():
    pixels = tf.image.resize(image, size, method, antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(pixels), 0, 255), tf.uint8)

  same = tf.reduce_all(tf.shape(image)[:2] == size)
  return tf.cond(same, lambda: image, resized)


def center_crop(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
  """Cut [height, width] out of the middle; less where the image is smaller."""
  top, left, height, width = _margins(image, height, width)
  return image[top // 2 : top // 2 + height, left // 2 : left // 2 + width]


def edge_pad_to_multiple(image: tf.Tensor, multiple: int) -> tf.Tensor:
  """Repeat the last row and column until both sides are multiples."""
  shape = tf.shape(image)
  padded = -(-shape[:2] // multiple) * multiple

  def pad():
    rows = tf.minimum(tf.range(padded[0]), shape[0] - 1)
    columns = tf.minimum(tf.range(padded[1]), shape[1] - 1)
    return tf.gather(tf.gather(image, rows), columns, axis=1)

  return tf.cond(tf.reduce_all(padded == shape[:2]), lambda: image, pad)


def _margins(image, height, width):
  """Spare rows and columns, and the size that can be cut."""
  shape = tf.shape(image)
  height, width = tf.minimum(height, shape[0]), tf.minimum(width, shape[1])
  return shape[0] - height, shape[1] - width, height, width
