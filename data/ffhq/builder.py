"""TFDS builder `ffhq`: 70,000 faces, from a folder that was downloaded by hand.

The pictures are `00000.png` to `69999.png`, at 1024 x 1024 or any smaller
published size, in any depth of folders (Karras et al. 2019). The first 60,000
are for training and the rest for validation, as their authors split them.
"""

import logging
import pathlib
import re

import numpy as np
import tensorflow_datasets as tfds

_NUM_IMAGES = 70_000
_NUM_TRAIN = 60_000
_NAME = re.compile(r"(\d{5})\.png", re.IGNORECASE)

_log = logging.getLogger(__name__)


class Ffhq(tfds.core.GeneratorBasedBuilder):
  """Flickr-Faces-HQ."""

  VERSION = tfds.core.Version("1.0.0")
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    "download the folder images1024x1024 (00000.png to 69999.png, 89 GB) as "
    "https://github.com/NVlabs/ffhq-dataset describes."
  )

  def _info(self) -> tfds.core.DatasetInfo:
    features = {
      "image": tfds.features.Image(
        shape=(None, None, 3), encoding_format="png"
      ),
      "id": tfds.features.Scalar(np.int64),
    }
    return tfds.core.DatasetInfo(
      builder=self,
      description="70,000 photographs of faces, aligned and cropped.",
      features=tfds.features.FeaturesDict(features),
      homepage="https://github.com/NVlabs/ffhq-dataset",
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    folder = pathlib.Path(dl_manager.manual_dir)
    numbered = {}
    for path in folder.rglob("*.[pP][nN][gG]"):
      match = _NAME.fullmatch(path.name)
      if match and int(match[1]) < _NUM_IMAGES:
        numbered[int(match[1])] = path
    splits = {
      "train": [n for n in sorted(numbered) if n < _NUM_TRAIN],
      "validation": [n for n in sorted(numbered) if n >= _NUM_TRAIN],
    }
    for split, numbers in splits.items():
      if not numbers:
        raise ValueError(
          f"{folder} has no pictures for {split}: it must hold 00000.png to "
          f"69999.png, and {len(numbered)} of these are there"
        )
    if len(numbered) < _NUM_IMAGES:
      _log.warning("%s has %d of 70000 pictures", folder, len(numbered))
    return {
      split: self._generate_examples(numbers, numbered)
      for split, numbers in splits.items()
    }

  def _generate_examples(self, numbers, paths):
    for number in numbers:
      yield number, {"image": paths[number].read_bytes(), "id": number}
