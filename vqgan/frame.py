"""Which part of an image of any size a first stage sees.

Plain arithmetic, for both host pipelines (`encode`, `arrays`).
"""

import dataclasses

TARGETS = ("image", "segmentation", "depth")
# What can come along, cut as the picture is; "boxes" bring "box_labels" and
# "crop", the part of the picture that is seen, with them, "box_flags" come with
# "boxes" only.
FIELDS = (
  *("image", "segmentation", "depth"),
  *("boxes", "box_flags", "keypoints", "crop"),
)
# What is told of each box, and what pads it.
_OF_BOXES = {"box_labels": -1, "box_flags": 0}
# What to do where codes come without a field.
_PICTURES = (
  "train from pictures, with the data.source and data.dir of the first stage's "
  "config and with tokenizer.weights naming its run"
)
_REMEDIES = {
  "crop": "tokenize again: `launch.tokenize` writes it",
  "box_flags": "tokenize again, or set condition.flags to ''",
}
MAX_BOXES = 64  # of a row; the largest are kept
MAX_FIGURES = 4  # of key points of a row; the first are kept


@dataclasses.dataclass(frozen=True)
class Frame:
  """How images become rows of one size: resized, then cropped.

  Attributes:
    size: rows and columns that the model sees.
    zoom: how much larger than it needs to be to cover `size` an image is
      made before the crop; 1 crops the longer side only. 0 keeps the image's
      own size, and enlarges only what does not cover `size`.
    flip: mirror every second training image, at random.
    target: "image" (uint8), "segmentation" (labels uint8 [h, w]) or "depth"
      (uint16, each picture's own range stretched to 0..65535).
    channels: 3, or 1 for images in shades of grey.
    label_shift: added to the labels of segmentations, modulo 256; 1 turns
      255, which datasets use for "unlabelled", into class 0.
    num_labels: classes that the model has of segmentations; a map that holds
      another, anywhere, is an error. 0 takes every label.
  """

  size: tuple[int, int]
  zoom: float = 1.0
  flip: bool = False
  target: str = "image"
  channels: int = 3
  label_shift: int = 0
  num_labels: int = 0

  def __post_init__(self):
    if self.target not in TARGETS:
      raise ValueError(
        f"target {self.target!r}: choose one of {', '.join(TARGETS)}"
      )
    if self.zoom and self.zoom < 1:
      raise ValueError(f"zoom {self.zoom} must be 0 or at least 1")
    if self.channels not in (1, 3):
      raise ValueError(f"channels {self.channels} must be 1 or 3")

  def about(self, field):
    """Return the frame of a field of FIELDS with pixels; labels as they are."""
    return dataclasses.replace(
      self, target=field, channels=3, label_shift=0, num_labels=0
    )

  @property
  def input(self):
    """The name of the row that the model reads."""
    return "segmentation" if self.target == "segmentation" else "image"

  def resized(self, h, w):
    """Return the size after resizing, at least `size`.

    The operations are those of both Python's and TensorFlow's float64.
    """
    cover = max(self.size[0] / h, self.size[1] / w)
    scale = cover * self.zoom if self.zoom else max(cover, 1.0)
    return tuple(
      max(int(side * scale + 0.5), least)
      for side, least in zip((h, w), self.size)
    )


def beyond(label, num_labels):
  """Return what to say of a label, or "{}" in its place, that is no class."""
  return (
    f"a label map holds class {label}, of data.num_labels {num_labels}: before "
    "training, raise data.num_labels or move the labels by data.label_shift; "
    "after it, mend the map"
  )


def check_flip(frame, fields):
  """Raise ValueError where a mirror image would be another condition."""
  if frame.flip and "keypoints" in fields:
    raise ValueError("keypoints tell left from right: set data.flip to False")


def of_boxes(fields):
  """Return what of each box comes along with these fields: name -> padding."""
  return {
    name: padding
    for name, padding in _OF_BOXES.items()
    if name == "box_labels" or name in fields
  }


def check_fields(fields, record, pictures=True):
  """Raise ValueError unless a record has the fields that are to come along.

  Args:
    fields: of FIELDS.
    record: whose names count.
    pictures: whether it is a picture's; else it is one of codes.
  """
  for name in fields:
    if name not in FIELDS:
      raise ValueError(f"field {name!r}: choose from {', '.join(FIELDS)}")
    if name in record:
      continue
    if not pictures:
      raise ValueError(
        f"this dataset of codes has no {name}, which the condition needs: "
        f"{_REMEDIES.get(name, _PICTURES)}"
      )
    if name != "crop":
      remedy = "the task cannot use it"
      if name == "box_flags":
        remedy = "set condition.flags to ''"
      raise ValueError(f"this dataset has no {name}: {remedy}")
