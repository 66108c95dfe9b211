"""Host-side preprocessing without TensorFlow: the rows of `encode`, by NumPy
and Pillow.

The factories serve `data.arrays`. Resized pixels agree with those of `encode`
to a level or two; the random numbers are another stream.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from vqgan import frame as frame_lib

Row = dict[str, np.ndarray]
Encode = Callable[[dict[str, Any], np.ndarray], Row]


def make_train_encode(frame: frame_lib.Frame) -> Encode:
  """Build the training function; see `encode.make_train_encode`."""

  def encode(record, seed):
    generator = np.random.Generator(
      np.random.Philox(np.asarray(seed, np.uint32))
    )
    x = _resized(frame, _read(frame, record))
    spare = [have - want for have, want in zip(x.shape, frame.size)]
    place = (int(u * (s + 1)) for u, s in zip(generator.random(2), spare))
    x = _cut(frame, x, *place)
    if frame.flip and generator.random() < 0.5:
      x = x[:, ::-1]
    return _row(frame, record, x)

  return encode


def make_eval_encode(frame: frame_lib.Frame) -> Encode:
  """Build the evaluation function; see `encode.make_eval_encode`."""

  def encode(record, seed):
    del seed
    x = _resized(frame, _read(frame, record))
    return _row(frame, record, _centre(frame, x))

  return encode


def make_picture_encode(frame: frame_lib.Frame) -> Encode:
  """Build the function that shows what is seen of an image.

  A row is image uint8 [1, h, w, 3] and size int32 [1, 2], whatever the
  frame's target.
  """
  colour = frame_lib.Frame(frame.size, frame.zoom)

  def encode(record, seed):
    del seed
    image = _centre(colour, _resized(colour, record["image"]))
    return {"image": image[None], "size": np.int32([frame.size])}

  return encode


def _read(frame, record):
  """Return what the frame is about: [h, w, c], or [h, w] but for images."""
  if frame.target == "segmentation":
    return record["segmentation"] + np.uint8(frame.label_shift % 256)
  if frame.target == "depth":
    depth = np.asarray(record["depth"], np.float32)
    spread = max(depth.max() - depth.min(), 1.0)
    return (depth - depth.min()) / spread * np.float32(65535)
  if frame.channels == 1:
    return np.asarray(Image.fromarray(record["image"]).convert("L"))[..., None]
  return record["image"]


def _resized(frame, x):
  size = frame.resized(*x.shape[:2])
  if size == x.shape[:2]:
    return x
  method = {
    "image": Image.Resampling.BICUBIC,
    "segmentation": Image.Resampling.NEAREST,
    "depth": Image.Resampling.BILINEAR,
  }[frame.target]
  grey = x.ndim == 3 and x.shape[2] == 1
  picture = Image.fromarray(x[..., 0] if grey else x)
  x = np.asarray(picture.resize((size[1], size[0]), method))
  return x[..., None] if grey else x


def _centre(frame, x):
  spare = [have - want for have, want in zip(x.shape, frame.size)]
  return _cut(frame, x, spare[0] // 2, spare[1] // 2)


def _cut(frame, x, top, left):
  return x[top : top + frame.size[0], left : left + frame.size[1]]


def _row(frame, record, x):
  if frame.target == "depth":
    x = np.rint(x).astype(np.uint16)[..., None]
  return {
    frame.input: np.ascontiguousarray(x)[None],
    "label": np.asarray(record["label"], np.int32).reshape(1),
    "example_id": np.asarray(record["example_id"], np.int32).reshape(1),
  }
