"""What samples of a prior are given: files and requests as batch rows.

Shapes: H W rows and columns in pixels, h w of the codes.
"""

import math
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np
from PIL import Image

from launch import request as request_lib
from vqgan import arrays, frame, prior_task, tokenizer
from vqgan.conditions import figure, kinds, maps, objects

# The first half of a picture is completed where nothing is said.
_HALF = 0.5
_JSON = {
  "boxes": '[{"box": [top, left, bottom, right], "label": 3}, ...] in 0..1, '
  'and "flags": ["group"] for models that know them',
  "keypoints": "[[[row, column, found], ...], ...] in 0..1, a list a figure",
}


def grid(
  task: prior_task.PriorTask, request: request_lib.Request
) -> tuple[int, int]:
  """Returns h and w of the samples.

  Raises:
    ValueError: the size is not one that a window can slide over.
  """
  if request.size is None:
    return task.grid
  factor, least = task.tokenizer.factor, task.grid
  sides = tuple(side // factor for side in request.size)
  fits = all(side % factor == 0 for side in request.size)
  if not fits or any(a < b for a, b in zip(sides, least)):
    smallest = "x".join(str(factor * side) for side in least)
    raise ValueError(
      f"size {request.size[0]}x{request.size[1]} must be multiples of {factor}"
      f" from {smallest} on"
    )
  if sides == least:
    return least
  if task.order != "row":
    raise ValueError(
      f"a larger size needs codes in the order row, this model has {task.order}"
    )
  condition = task.condition
  slides = isinstance(condition, maps.Map | kinds.Places)
  if condition.length and not (slides and condition.places == least):
    raise ValueError(
      "a larger size needs a condition with a token for every code, or none: "
      "leave out --size"
    )
  return sides


def rows(
  config: ml_collections.ConfigDict,
  task: prior_task.PriorTask,
  request: request_lib.Request,
) -> dict[str, np.ndarray]:
  """Returns batch rows [1, ...] of what the request itself gives.

  Args:
    config: of the run.
    task: of pictures of the requested size.
    request: what is asked for.

  Raises:
    ValueError: a condition of the wrong kind, or none to give.
  """
  found = {}
  size = tuple(task.tokenizer.factor * side for side in task.grid)
  if request.given == "complete":
    found |= _picture(task, request.image, size)
  elif request.given:
    raise ValueError(f"a prior cannot {request.given}: it has --complete")
  if isinstance(task.condition, kinds.Places):
    found["crop"] = _middle(config.data.zoom, size, tuple(config.data.size))
  if request.condition is not None:
    found |= _condition(task.condition, request.condition, size)
  return found


def kept(
  task: prior_task.PriorTask, request: request_lib.Request
) -> np.ndarray | None:
  """Returns which codes every sample keeps, bool [1, h, w]; None for none."""
  if request.given == "complete":
    share = request.fraction
  elif isinstance(task.condition, kinds.Known):
    share = _HALF
  else:
    return None
  high, wide = task.grid
  upper = np.arange(high)[:, None] < round(share * high)
  return np.broadcast_to(upper, (1, high, wide))


def known(task: prior_task.PriorTask, keep: np.ndarray | None) -> int:
  """Returns how many first codes, in the model's order, are all kept."""
  if keep is None:
    return 0
  sequence = np.asarray(task.sequence(keep))[0]
  return len(sequence) if sequence.all() else int(np.argmin(sequence))


def lacks(
  task: prior_task.PriorTask,
  found: Mapping[str, np.ndarray],
  keep: np.ndarray | None,
) -> bool:
  """Says whether rows of the dataset have to tell what is given.

  Raises:
    ValueError: half of it is given, and half would be of other pictures.
  """
  wanted = set(task.condition.fields)
  if "edges" in found:
    wanted -= {"image"}
  if keep is not None:
    wanted |= {task.tokenizer.input}
  missing = wanted - set(found)
  if missing and task.tokenizer.input in found:
    raise ValueError(
      "the model's condition goes with the picture to complete: give "
      "--condition=FILE too"
    )
  return bool(missing)


def _picture(task, image, size) -> dict[str, np.ndarray]:
  """Returns the rows of a picture: what the first stage reads, and RGB."""
  if not tokenizer.reads_pictures(task.tokenizer):
    raise ValueError("only models of pictures complete one")
  channels = task.tokenizer.spec(1).shape[-1]
  record = {"image": image, "label": 0, "example_id": 0}
  framed = lambda count: arrays.make_eval_encode(
    frame.Frame(size, channels=count)
  )(record, None)["image"]
  return {"image": framed(channels)}


def _condition(condition, value, size) -> dict[str, np.ndarray]:
  """Returns the rows of a --condition."""
  if isinstance(condition, kinds.Scene):
    layout = condition.layout
    most = min(layout.most, frame.MAX_BOXES)
    found = _boxes(value, most, layout.num_classes)
    told = _flags(value, layout)
    return found | (told if layout.flags else {})
  if not isinstance(condition, maps.Map):
    raise ValueError("--condition=FILE means nothing to this model")
  if condition.kind == "keypoints":
    if condition.skeleton == "cross":
      return _boxes(value, frame.MAX_BOXES)
    return {"keypoints": _points(value, condition.skeleton)}
  if not isinstance(value, np.ndarray):
    raise ValueError(
      f"--condition of {condition.kind} must be a picture, not .json"
    )
  flat = value.ndim == 2
  if condition.kind == "segmentation":
    in_range = flat and value.min() >= 0 and value.max() < 256
    _need(in_range, "a label map of one channel and 8 bits")
    labels = _resized(value.astype(np.uint8), size, Image.Resampling.NEAREST)
    shifted = (labels.astype(int) + condition.label_shift) % 256
    if shifted.max() >= condition.num_labels:
      raise ValueError(
        f"label {labels.max()} of the map must be below {condition.num_labels}"
      )
    return {"segmentation": labels[None]}
  if condition.kind == "depth":
    _need(flat, "a depth map of one channel")
    depth = _resized(value.astype(np.float32), size, Image.Resampling.BILINEAR)
    return {"depth": np.clip(depth, 0, 65535).astype(np.uint16)[None]}
  if condition.kind == "edges" and flat:
    drawn = np.where(value > 0, np.float32(255), np.float32(0))
    # Thin lines survive: a pixel is an edge where any of its own was.
    return {"edges": _resized(drawn, size, Image.Resampling.BOX)[None] > 32}
  if value.dtype == bool:
    value = np.uint8(255) * value
  _need(value.dtype == np.uint8, "a picture of 8 bits")
  if flat:
    value = np.repeat(value[..., None], 3, axis=-1)
  method = Image.Resampling.BICUBIC
  if condition.kind == "lowres" and condition.stage is None:
    method = Image.Resampling.BOX  # whose means are the picture itself
  return {"image": _resized(value, size, method)[None]}


def _boxes(
  value: Any, most: int, num_labels: float = math.inf
) -> dict[str, np.ndarray]:
  """Reads at most `most` of [{"box": [...], "label": 3}, ...]."""
  try:
    boxes = np.array([x["box"] for x in value], np.float32)
    boxes = boxes.reshape(len(value), 4)
    labels = np.array([int(x["label"]) for x in value], np.int32)
  except (TypeError, KeyError, ValueError, OverflowError) as error:
    raise ValueError(f"--condition must hold {_JSON['boxes']}") from error
  start, end = boxes[:, :2], boxes[:, 2:]
  sound = (start >= 0) & (start < end) & (end <= 1)  # not where one is NaN
  if len(labels) > most or not sound.all():
    raise ValueError(
      f"--condition must hold at most {most} boxes, {_JSON['boxes']}"
    )
  wrong = [x for x in labels if not 0 <= x < num_labels]
  if wrong:
    raise ValueError(
      f"label {wrong[0]} of --condition must be in 0..{num_labels - 1}"
    )
  spare = frame.MAX_BOXES - len(labels)
  return {
    "boxes": np.pad(boxes, ((0, spare), (0, 0)))[None],
    "box_labels": np.pad(labels, (0, spare), constant_values=-1)[None],
    "crop": np.float32([[0, 0, 1, 1]]),
  }


def _flags(value: Any, layout: objects.Layout) -> dict[str, np.ndarray]:
  """Reads the flags of boxes: those that the model knows."""
  found = np.zeros(frame.MAX_BOXES, np.int32)
  for i, row in enumerate(value):
    names = row.get("flags", [])
    known = isinstance(names, list) and all(x in layout.flags for x in names)
    if not known:
      raise ValueError(
        f"--condition has flags {names!r} that this model was not told: it "
        f"knows {', '.join(layout.flags) or 'none'}"
      )
    found[i] = sum(objects.FLAGS[name] for name in {*names})
  return {"box_flags": found[None]}


def _points(value: Any, skeleton: str) -> np.ndarray:
  expected = figure.num_points(skeleton)
  try:
    points = np.array(value, np.float32)
  except (TypeError, ValueError, OverflowError):
    points = np.zeros(0)
  right = points.shape[1:] == (expected, 3)
  if not right or not np.isfinite(points).all():
    raise ValueError(
      f"--condition must hold {expected} points a figure of {skeleton}: "
      f"{_JSON['keypoints']}"
    )
  return points[None]


def _middle(zoom, size, trained) -> np.ndarray:
  """Returns the crop, in 0..1, in the middle of a picture that is zoomed.

  A sample larger than trained is so much more of the picture, at most all.
  """
  share = [min(1.0, a / (b * max(zoom, 1.0))) for a, b in zip(size, trained)]
  low = [(1 - s) / 2 for s in share]
  return np.float32([[*low, *(1 - s for s in low)]])


def _resized(values, size, method) -> np.ndarray:
  """Resizes [H, W] or [H, W, 3] to cover `size`, and cuts the middle."""
  about = frame.Frame(size)
  rows_, columns = about.resized(*values.shape[:2])
  if values.shape[:2] != (rows_, columns):
    values = np.asarray(
      Image.fromarray(values).resize((columns, rows_), method)
    )
  top, left = (rows_ - size[0]) // 2, (columns - size[1]) // 2
  return values[top : top + size[0], left : left + size[1]]


def _need(right, what):
  if not right:
    raise ValueError(f"--condition must be {what}")
