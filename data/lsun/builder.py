"""TFDS builder `lsun`: TFDS's own, but reading LSUN's files with `lmdb`.

TFDS reads them with tensorflow-io, which has no release for the TensorFlow of
today. Name, version, features and downloads are the same, so that what one of
the two prepared the other finds. Where `--manual_dir=DIR` holds the unpacked
bedroom_train_lmdb/ and bedroom_val_lmdb/ (of an object category: cat/), these
are read and nothing is downloaded.
"""

import io
import pathlib

import tensorflow_datasets as tfds
from tensorflow_datasets.image import lsun

# Our name of a split: LSUN's folder.
_SCENES = {"train": "{}_train_lmdb", "validation": "{}_val_lmdb"}
_OBJECTS = {"train": "{}"}
_FILE = "data.mdb"

with tfds.core.registered.skip_registration():

  class Lsun(lsun.Lsun):
    """Scenes and objects (Yu et al. 2015)."""

    url_infos = lsun.Lsun.url_infos  # kept beside TFDS's own module

    def _split_generators(self, dl_manager):
      root = pathlib.Path(dl_manager._manual_dir or "")
      if not (root.is_dir() and any(root.iterdir())):
        return super()._split_generators(dl_manager)
      category = self.builder_config.name
      known = _OBJECTS if (root / category).is_dir() else _SCENES
      folders = {k: name.format(category) for k, name in known.items()}
      return {
        split: self._generate_examples(str(root), folder)
        for split, folder in folders.items()
      }

    def _generate_examples(self, extracted_dir, file_path):
      import lmdb  # the extra `lsun`

      folder = pathlib.Path(extracted_dir) / file_path
      if not (folder / _FILE).is_file():
        raise ValueError(f"{folder} has no {_FILE}")
      with (
        lmdb.open(str(folder), readonly=True, lock=False) as held,
        held.begin() as reading,
      ):
        for index, (name, image) in enumerate(reading.cursor()):
          yield index, {"id": name.decode(), "image": io.BytesIO(image)}
