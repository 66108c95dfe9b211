"""What a dataset is to this codebase: numbered records, read by index."""

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

# What a record may hold beside image, label and name; PNG bytes or an array.
FIELDS: Mapping[str, tuple[type, str]] = {
  "codes": (np.uint16, "[h, w], of a tokenizer; it is there, no image is"),
  "segmentation": (np.uint8, "[h, w], class of each pixel"),
  "depth": (np.uint16, "[h, w], distance, unit as the dataset says"),
  "boxes": (np.float32, "[m, 4], top, left, bottom, right in 0..1"),
  "box_labels": (np.int32, "[m], class of each box"),
  "box_flags": (np.int32, "[m], sums of BOX_FLAGS"),
  "keypoints": (
    np.float32,
    "[p, k, 3], row and column in 0..1 and found (above 0), of p figures",
  ),
  "crop": (np.float32, "[4], the part of the picture that is kept, as boxes"),
}

# What may be said of a box, and its bit.
BOX_FLAGS = {"group": 1, "occluded": 2, "depiction": 4, "inside": 8}

# Those that may come as a file, and are decoded with the image.
MAPS = ("segmentation", "depth")


class DataError(ValueError):
  """A dataset that is absent, empty or unreadable; the message has the cure."""


class Source(Protocol):
  """A dataset with random access. Reading is safe from several threads.

  Attributes:
    name: for messages, for example `imagenet2012 train`.
    num_classes: 0 where there are no labels.
    class_names: `num_classes` names in the order of the labels.
    fields: which keys of FIELDS every record has.
    fingerprint: a short text that changes when the records or their order do.
  """

  name: str
  num_classes: int
  class_names: tuple[str, ...]
  fields: tuple[str, ...]
  fingerprint: str

  def __len__(self) -> int: ...

  def read(self, indices: np.ndarray) -> list[dict[str, Any]]:
    """Returns the records at `indices` (int [k], each in 0..len-1), in order.

    A record has `image` (encoded bytes, or uint8 [h, w] or [h, w, c]), `label`
    (int, 0 where there is none), `name` (str, for messages) and the source's
    `fields`; with the field `codes` there is no `image`. What cannot be read
    comes back as an empty `image`, never as an exception: whoever decodes it
    decides what takes its place.
    """
    ...


def has_pictures(source: Source) -> bool:
  """Says whether records have an `image`: all but those of codes."""
  return "codes" not in source.fields


class Part:
  """Some records of a source, in a given order; a `Source`.

  Args:
    source: which they are of.
    indices: int [k], in any order and as often as wanted.
  """

  def __init__(self, source: Source, indices: np.ndarray):
    self._source = source
    self._indices = np.asarray(indices, np.int64)
    self.name = source.name
    self.num_classes = source.num_classes
    self.class_names = source.class_names
    self.fields = source.fields
    digest = hashlib.sha256(self._indices.tobytes()).hexdigest()[:16]
    self.fingerprint = f"{source.fingerprint} {digest}"

  def __len__(self) -> int:
    return len(self._indices)

  def read(self, indices: np.ndarray) -> list[dict[str, Any]]:
    return self._source.read(self._indices[indices])
