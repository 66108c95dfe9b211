"""Folders of images with label maps, depth maps or key points beside them.

PATH/train/images/a.jpg        PATH/train/segmentation/a.png
PATH/validation/images/b.jpg   PATH/validation/depth/b.png
                               PATH/validation/keypoints/b.json
"""

import hashlib
import json
import os
import pathlib
from typing import Any

import numpy as np

from data import decoding, folder, source

# What may lie beside the images, and how its files end.
_FIELDS = {"segmentation": "png", "depth": "png", "keypoints": "json"}


class Pairs:
  """The images of a split and the maps of the same names; a `source.Source`.

  Args:
    path: holds a folder per split; a split holds `images`, and `segmentation`,
      `depth` (PNG) or `keypoints` (JSON) or several of them, with a file for
      every image, named as the image is but for the extension.
    split: name of the split's folder.

  Label maps have one channel of 8 bits (a palette is not looked up), depth
  maps one of 8 or 16. Key points are [[[row, column, found], ...], ...] in
  0..1, a list a figure. Raises DataError where anything of this is missing.
  """

  def __init__(self, path: str, split: str):
    root = os.path.join(os.path.expanduser(path), split)
    layout = f"{root} must hold images/ and {', '.join(_FIELDS)}"
    if not os.path.isdir(os.path.join(root, "images")):
      raise source.DataError(f"{layout}; there is no {root}/images")
    self.fields = tuple(
      name for name in _FIELDS if os.path.isdir(os.path.join(root, name))
    )
    if not self.fields:
      raise source.DataError(f"{layout}; it has none of these")
    self._images = folder.Folder(os.path.join(root, "images"), "all")
    self.name = f"{path} {split}"
    self.class_names = self._images.class_names
    self.num_classes = self._images.num_classes
    self._root = root
    sizes = []
    for field in self.fields:
      names = [self._map(field, name) for name in self._images.file_names]
      absent = [name for name in names if not os.path.isfile(name)]
      if absent:
        raise source.DataError(
          f"{len(absent)} of {len(names)} images have no {field}, the first "
          f"would be {absent[0]}"
        )
      sizes += [os.path.getsize(name) for name in names]
    text = repr((self._images.fingerprint, self.fields, sizes))
    self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]

  def __len__(self) -> int:
    return len(self._images)

  def read(self, indices: np.ndarray) -> list[dict[str, Any]]:
    return [
      self._with_maps(record, self._images.file_names[int(index)])
      for record, index in zip(self._images.read(indices), indices)
    ]

  def _with_maps(self, record, name):
    for field in self.fields:
      try:
        record[field] = _read(self._map(field, name), field)
      except (OSError, ValueError, TypeError) as error:
        # An empty image makes the next one take its place.
        reason = " ".join(str(error).split())
        record |= {"image": b"", "name": f"{field} of {name} ({reason})"}
        dtype, _ = source.FIELDS[field]
        shape = (0, 1, 3) if field == "keypoints" else (1, 1)
        record[field] = np.zeros(shape, dtype)
    return record

  def _map(self, field, name):
    stem = os.path.splitext(name)[0]
    return os.path.join(self._root, field, f"{stem}.{_FIELDS[field]}")


def _read(path, field):
  """Returns a map [h, w], or key points [p, k, 3], of the field's type."""
  dtype, _ = source.FIELDS[field]
  if field != "keypoints":
    return decoding.to_map(pathlib.Path(path).read_bytes(), dtype)
  with open(path, encoding="utf-8") as file:
    points = np.asarray(json.load(file), dtype)
  if points.ndim != 3 or points.shape[2] != 3:
    raise ValueError("not [[[row, column, found], ...], ...]")
  return points
