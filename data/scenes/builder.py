"""TFDS builder `scenes`: rendered on the spot, no download, no network.

`tfds.builder("scenes/64")`, or any side:
`Scenes(config=ScenesConfig(side=96, num_train=40))`.
"""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from data.scenes import scene, worker

_DESCRIPTION = """
A few shaded solids of several shapes and colours on a plane under one light,
with the class of the largest, segmentation, depth and bounding boxes. Drawn by
this package, deterministically.
"""

SIDES = (32, 64, 128, 256, 512, 1024)

# Scenes are numbered; each split starts at its own number, whatever its size.
_STARTS = {"train": 0, "validation": 1 << 30, "test": 1 << 31}


@dataclasses.dataclass(eq=False)
class ScenesConfig(tfds.core.BuilderConfig):
  """A size of picture and of dataset.

  Attributes:
    side: of the pictures, 32..1024 pixels. The same number is the same scene
      at every side.
    num_train: training pictures.
    num_held_out: pictures in validation, and in test.
    seed: of the scenes.
    name: made from the numbers above.
  """

  name: str = ""
  side: int = 64
  num_train: int = 5000
  num_held_out: int = 500
  seed: int = 0

  def __post_init__(self):
    default = type(self)
    if not 32 <= self.side <= 1024:
      raise ValueError(f"side {self.side} must be in 32..1024")
    sizes = (self.num_train, self.num_held_out, self.seed)
    name = str(self.side)
    if sizes != (default.num_train, default.num_held_out, default.seed):
      name += "-{}-{}-{}".format(*sizes)
    self.name = name
    self.description = f"{self.side} x {self.side} pixels"


def parse(name: str) -> ScenesConfig:
  """Return the config of a name: `96`, or `96-40-8-0` with all its numbers.

  Raises ValueError for anything else.
  """
  fields = ("side", "num_train", "num_held_out", "seed")
  parts = (name or "64").split("-")
  if len(parts) not in (1, len(fields)) or not all(map(str.isdigit, parts)):
    raise ValueError(
      f"config {name!r} must be SIDE or SIDE-NUM_TRAIN-NUM_HELD_OUT-SEED"
    )
  config = ScenesConfig(**dict(zip(fields, map(int, parts))))
  # TFDS wants its own object for a name that it knows.
  return Scenes.builder_configs.get(config.name, config)


class Scenes(tfds.core.GeneratorBasedBuilder):
  """A few shaded solids on a plane, in the manner of CLEVR."""

  VERSION = tfds.core.Version("1.1.0")
  BUILDER_CONFIGS = tuple(ScenesConfig(side=side) for side in SIDES)
  DEFAULT_CONFIG_NAME = "64"

  def _info(self) -> tfds.core.DatasetInfo:
    side = self.builder_config.side
    features = {
      "image": tfds.features.Image(
        shape=(side, side, 3), encoding_format="png"
      ),
      "label": tfds.features.ClassLabel(names=list(scene.CLASS_NAMES)),
      "segmentation": tfds.features.Image(
        shape=(side, side, 1), encoding_format="png"
      ),
      "depth": tfds.features.Image(
        shape=(side, side, 1), dtype=np.uint16, encoding_format="png"
      ),
      "objects": tfds.features.Sequence(
        {
          "bbox": tfds.features.BBoxFeature(),
          "label": tfds.features.ClassLabel(names=list(scene.CLASS_NAMES)),
        }
      ),
      "id": tfds.features.Scalar(np.int64),
    }
    return tfds.core.DatasetInfo(
      builder=self,
      description=_DESCRIPTION,
      features=tfds.features.FeaturesDict(features),
      supervised_keys=("image", "label"),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # nothing to download
    config = self.builder_config
    sizes = {
      "train": config.num_train,
      "validation": config.num_held_out,
      "test": config.num_held_out,
    }
    return {
      split: self._generate_examples(_STARTS[split], size)
      for split, size in sizes.items()
    }

  def _generate_examples(self, start, count):
    config = self.builder_config
    for item in worker.examples(config.seed, config.side, start, count):
      boxes = [tfds.features.BBox(*map(float, box)) for box in item["boxes"]]
      labels = [int(label) for label in item["box_labels"]]
      yield (
        item["index"] - start,
        {
          "image": item["image"],
          "label": item["label"],
          "segmentation": item["segmentation"],
          "depth": item["depth"],
          "objects": [
            {"bbox": box, "label": label} for box, label in zip(boxes, labels)
          ],
          "id": item["index"],
        },
      )
