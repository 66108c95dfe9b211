"""The columns of a shard of codes, of the batches that were encoded."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data import codes
from vqgan import arrays


def of_batch(
  batch: Mapping[str, Any], found: Any, read: str, flips: bool
) -> dict[str, Any]:
  """Returns the columns that a batch gives, as host arrays.

  Args:
    batch: rows of `vqgan.encode`, with `mask`.
    found: codes [b, 1 or 2, h, w], those of mirror images second.
    read: the row that was encoded, and is not kept.
    flips: whether a mirror image follows each image.
  """
  real = np.asarray(batch["mask"])
  both = lambda x, y: np.stack([x, y], 1).reshape(-1, *x.shape[1:])
  twice = lambda x, mirrored: both(x, mirrored(x)) if flips else x
  found = np.asarray(found)[real]
  columns = {
    "codes": found.reshape(-1, *found.shape[2:]),
    "label": twice(batch["label"][real], lambda x: x),
    "crop": twice(batch["crop"][real], arrays.mirrored_boxes),
  }
  for name in {"segmentation", "depth"} - {read}:
    if name in batch:
      columns[name] = twice(batch[name][real], lambda x: x[:, :, ::-1])
  if "keypoints" in batch:
    columns["keypoints"] = batch["keypoints"][real]
  if "boxes" in batch:
    boxes = twice(batch["boxes"][real], arrays.mirrored_boxes)
    labels = twice(batch["box_labels"][real], lambda x: x)
    columns["boxes"] = [x[y >= 0] for x, y in zip(boxes, labels)]
    columns["box_labels"] = [y[y >= 0] for y in labels]
    if "box_flags" in batch:
      told = twice(batch["box_flags"][real], lambda x: x)
      columns["box_flags"] = [x[y >= 0] for x, y in zip(told, labels)]
  return columns


def joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Returns columns of several batches as one."""
  whole: dict[str, Any] = {}
  for name in parts[0]:
    columns = [part[name] for part in parts]
    if name in codes.RAGGED:
      whole[name] = list(itertools.chain(*columns))
    else:
      whole[name] = np.concatenate(columns)
  return whole
