"""Host-side preprocessing without TensorFlow: the rows of `encode`, by NumPy
and Pillow.

The factories serve `data.arrays`. Resized pixels agree with those of `encode`
to a level or two; the random numbers are another stream.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from data import source as source_lib
from vqgan import frame as frame_lib

Row = dict[str, np.ndarray]
Encode = Callable[[dict[str, Any], np.ndarray], Row]


def make_train_encode(
  frame: frame_lib.Frame,
  fields: Sequence[str] = (),
  classes: frame_lib.Classes = frame_lib.ANY,
) -> Encode:
  """Build the training function; see `encode.make_train_encode`."""
  frame_lib.check_flip(frame, fields)

  def encode(record, seed):
    generator = np.random.Generator(
      np.random.Philox(np.asarray(seed, np.uint32))
    )
    x = _resized(frame, _read(frame, record))
    spare = [have - want for have, want in zip(x.shape, frame.size)]
    top, left = (int(u * (s + 1)) for u, s in zip(generator.random(2), spare))
    mirror = frame.flip and generator.random() < 0.5
    place = _Place(x.shape[:2], top, left, bool(mirror))
    return _row(frame, record, x, place, fields, classes)

  return encode


def make_eval_encode(
  frame: frame_lib.Frame,
  fields: Sequence[str] = (),
  classes: frame_lib.Classes = frame_lib.ANY,
) -> Encode:
  """Build the evaluation function; see `encode.make_eval_encode`."""

  def encode(record, seed):
    del seed
    x = _resized(frame, _read(frame, record))
    return _row(frame, record, x, _middle(frame, x), fields, classes)

  return encode


def make_codes_encode(
  grid: tuple[int, int],
  fields: Sequence[str] = (),
  classes: frame_lib.Classes = frame_lib.ANY,
) -> Encode:
  """Build the function of records of codes; see `encode.make_codes_encode`."""

  def encode(record, seed):
    del seed
    frame_lib.check_fields(fields, record, pictures=False)
    if record["codes"].shape != grid:
      raise ValueError(f"codes {record['codes'].shape} must be {grid}")
    row = {"codes": record["codes"][None], **_identity(record)}
    if "segmentation" in fields:
      _labels(classes, record)
    for name in fields:
      if name == "boxes":
        row |= _padded(record["boxes"], record, fields)
        row["crop"] = record["crop"][None]
      elif name not in row:
        row[name] = record[name][None]
    return row

  return encode


def make_picture_encode(frame: frame_lib.Frame) -> Encode:
  """Build the function that shows what is seen of an image.

  A row is image uint8 [1, h, w, 3] and size int32 [1, 2], whatever the
  frame's target.
  """
  colour = frame_lib.Frame(frame.size, frame.zoom)

  def encode(record, seed):
    del seed
    image = _resized(colour, record["image"])
    image = _cut(colour, image, _middle(colour, image))
    return {"image": image[None], "size": np.int32([frame.size])}

  return encode


@dataclasses.dataclass(frozen=True)
class _Place:
  """A crop: `size` of what it is cut from, its corner, whether mirrored."""

  size: tuple[int, int]
  top: int
  left: int
  mirror: bool


def _read(frame, record):
  """Return what the frame is about: [h, w, c], or [h, w] but for images."""
  if frame.target == "segmentation":
    return _labels(frame.classes, record)
  if frame.target == "depth":
    depth = record["depth"].astype(np.float32)
    spread = max(depth.max() - depth.min(), 1.0)
    return (depth - depth.min()) / spread * np.float32(65535)
  if frame.channels == 1:
    return np.asarray(Image.fromarray(record["image"]).convert("L"))[..., None]
  return record["image"]


def _labels(classes, record):
  """Return the labels [h, w], shifted; all of them are classes."""
  x = record["segmentation"] + np.uint8(classes.label_shift % 256)
  if classes.num_labels and x.max() >= classes.num_labels:
    said = classes.beyond(record["example_id"], x.max())
    raise source_lib.DataError(said)
  return x


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


def _middle(frame, x):
  top, left = ((have - want) // 2 for have, want in zip(x.shape, frame.size))
  return _Place(x.shape[:2], top, left, False)


def _cut(frame, x, place):
  h, w = frame.size
  x = x[place.top : place.top + h, place.left : place.left + w]
  return x[:, ::-1] if place.mirror else x


def _row(frame, record, x, place, fields, classes):
  frame_lib.check_fields(fields, record)
  x = _cut(frame, x, place)
  if frame.target == "depth":
    x = _whole(x)[..., None]
  row = {frame.input: np.ascontiguousarray(x)[None], **_identity(record)}
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
      x = _whole(x) if name == "depth" else x
      row[name] = np.ascontiguousarray(x)[None]
  return row


def _identity(record):
  return {
    "label": np.asarray(record["label"], np.int32).reshape(1),
    "example_id": np.asarray(record["example_id"], np.int32).reshape(1),
  }


def _whole(depth):
  return np.rint(depth).astype(np.uint16)


def _boxes(frame, record, place, fields):
  """Return boxes within the crop, largest first, and the crop itself."""
  size = np.tile(np.float32(place.size), 2)
  start = np.tile(np.float32([place.top, place.left]), 2)
  cut = np.tile(np.float32(frame.size), 2)
  boxes = (np.asarray(record["boxes"], np.float32) * size - start) / cut
  boxes = np.clip(boxes, 0.0, 1.0)
  if place.mirror:
    boxes = mirrored_boxes(boxes)
  area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
  order = np.argsort(-area, kind="stable")
  order = order[area[order] > 0]
  told = {
    name: np.asarray(record[name], np.int32)[order]
    for name in frame_lib.of_boxes(fields)
  }
  crop = _seen(frame, place)
  return {**_padded(boxes[order], told, fields), "crop": crop[None]}


def _keypoints(frame, points, place):
  """Return points [p, k, 3] in 0..1 of the crop, for MAX_FIGURES figures."""
  points = np.asarray(points, np.float32)
  corner = np.float32([place.top, place.left])
  places = points[..., :2] * np.float32(place.size) - corner
  points = np.concatenate([places / np.float32(frame.size), points[..., 2:]], 2)
  points = points[: frame_lib.MAX_FIGURES]
  spare = frame_lib.MAX_FIGURES - len(points)
  return np.pad(points, ((0, spare), (0, 0), (0, 0)))


def _seen(frame, place):
  """Return the crop [4] in 0..1 of the whole picture."""
  size = np.tile(np.float32(place.size), 2)
  start = np.tile(np.float32([place.top, place.left]), 2)
  crop = (start + np.float32([0, 0, *frame.size])) / size
  return mirrored_boxes(crop) if place.mirror else crop


def mirrored_boxes(boxes: np.ndarray) -> np.ndarray:
  """Return boxes [..., 4] (top, left, bottom, right) of the mirror image."""
  top, left, bottom, right = np.moveaxis(boxes, -1, 0)
  return np.stack([top, 1 - right, bottom, 1 - left], -1)


def _padded(boxes, told, fields):
  """Return MAX_BOXES boxes and what is told of each; label -1 is no box."""
  count = min(len(boxes), frame_lib.MAX_BOXES)
  row = {"boxes": np.zeros((1, frame_lib.MAX_BOXES, 4), np.float32)}
  row["boxes"][0, :count] = boxes[:count]
  for name, padding in frame_lib.of_boxes(fields).items():
    row[name] = np.full((1, frame_lib.MAX_BOXES), padding, np.int32)
    row[name][0, :count] = told[name][:count]
  return row
