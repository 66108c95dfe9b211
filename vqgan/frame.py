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
class Classes:
  """Which labels a map may hold.

  Attributes:
    num_labels: a label, shifted, is below it; 0 takes every label.
    label_shift: added to the labels, modulo 256.
    section: of the config that says so.
    stage: whether a first stage of its own has them, instead of the section.
  """

  num_labels: int = 0
  label_shift: int = 0
  section: str = "data"
  stage: bool = False

  def beyond(self, example, label):
    """Return what to say of a map with a label, shifted, that is no class.

    Args:
      example: its number in the dataset, or "{}" in its place.
      label: the label, or "{}" too.
    """
    field = f"{self.section}.num_labels"
    of, remedy = f"{field} {self.num_labels}", f"raise {field}"
    if self.stage:
      stage = f"{self.section}.stage"
      of = f"the {self.num_labels} of {stage}"
      remedy = f"choose another {stage}.weights"
    return (
      f"the label map of example {example} holds class {label}, of {of}: "
      f"before training, {remedy} or move the labels by "
      f"{self.section}.label_shift; after it, mend the map"
    )


ANY = Classes()


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
    """Return the frame of a field of FIELDS with pixels; labels as they are.

    Which labels there may be, only the reader of the field can say: `Classes`.
    """
    return dataclasses.replace(
      self, target=field, channels=3, label_shift=0, num_labels=0
    )

  @property
  def classes(self):
    """Which labels the maps that the model reads may hold."""
    return Classes(self.num_labels, self.label_shift)

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
