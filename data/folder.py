"""A user's own folder of images as a source.

Either pictures in any depth of folders, or one folder per class (with anything
below it), or `train/` and `validation/` folders that hold one or the other.
"""

import hashlib
import io
import logging
import os
import struct
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from data import decoding, source

EXTENSIONS = (
  *("apng", "avif", "bmp", "gif", "jfif", "jp2", "jpe", "jpeg", "jpg", "pbm"),
  *("pgm", "png", "pnm", "ppm", "tga", "tif", "tiff", "webp"),
)

_SPLITS = ("train", "validation", "all")
_VALIDATION = ("validation", "valid", "val", "test")

_log = logging.getLogger(__name__)


class Folder:
  """The images below a path, in the order of their names; a `source.Source`.

  Args:
    path: the folder.
    split: `train`, `validation` or `all`. Where the folder has a subfolder
      `train`, only that is trained on, and one called `validation`, `valid`,
      `val` or `test` beside it is the validation split. Otherwise a hash of
      each file's name decides, so that a file stays in its split when others
      come and go. `all` holds nothing out.
    held_out: the share of files that the hash puts in `validation`.

  Where all pictures are in at least two subfolders, these are the classes, in
  the order of their names. Files of other kinds are left out. Photographs are
  turned upright as their EXIF says. Raises DataError where there is no folder
  or no image.
  """

  def __init__(self, path: str, split: str = "all", held_out: float = 0.05):
    if split not in _SPLITS:
      raise source.DataError(f"split {split!r} must be one of {_SPLITS}")
    if not 0 <= held_out < 1:
      raise source.DataError(f"held_out {held_out} must be in 0..1")
    path = os.path.expanduser(path)
    if not path:
      raise source.DataError(
        "no folder of pictures was given: --config.data.dir=PICTURES"
      )
    if not os.path.isdir(path):
      raise source.DataError(f"there is no folder {path}")
    self.name = f"{path} {split}"
    self.fields = ()
    training, validation = _roots(path)
    self._root = training
    files = list_images(training)
    # Both splits number the classes alike.
    self.class_names = _classes([name for name, _ in files])
    self.num_classes = len(self.class_names)
    if validation and split == "validation":
      self._root = validation
      files = list_images(validation)
    if not files:
      raise source.DataError(
        f"no images in {self._root}; known are {', '.join(EXTENSIONS)}"
      )
    if not validation and split != "all":
      files = _part(files, split, held_out)
      if not files:
        raise source.DataError(
          f"{path} has no images for {split} with held_out {held_out}; use "
          "another share, or split all"
        )
    self._files = [name for name, _ in files]
    numbers = {name: i for i, name in enumerate(self.class_names)}
    unknown = {n.split("/")[0] for n in self._files} - set(numbers)
    if numbers and unknown:
      raise source.DataError(
        f"{self._root} has classes that are not in {training}: "
        f"{sorted(unknown)}"
      )
    self._labels = [
      numbers[name.split("/")[0]] if numbers else 0 for name in self._files
    ]
    digest = hashlib.sha256(
      repr((files, self.class_names)).encode("utf-8", "surrogateescape")
    )
    self.fingerprint = digest.hexdigest()[:16]

  def __len__(self) -> int:
    return len(self._files)

  @property
  def file_names(self) -> list[str]:
    """Names below the folder, in the order of the indices."""
    return self._files

  def read(self, indices: np.ndarray) -> list[dict[str, Any]]:
    return [self._record(int(index)) for index in indices]

  def _record(self, index):
    name = self._files[index]
    try:
      with open(os.path.join(self._root, name), "rb") as file:
        image = upright(file.read())
    except OSError as error:
      image, name = b"", f"{name} ({error.strerror})"
    return {"image": image, "label": self._labels[index], "name": name}


def list_images(root: str) -> list[tuple[str, int]]:
  """Return names below a folder (with /) and sizes of all images, sorted."""
  found, others, seen = [], 0, set()
  stack = [""]
  while stack:
    below = stack.pop()
    folder = os.path.join(root, below)
    real = os.path.realpath(folder)
    if real in seen:
      continue  # a link to a folder above
    seen.add(real)
    with os.scandir(folder) as entries:
      for entry in entries:
        name = f"{below}{entry.name}"
        if entry.name.startswith("."):
          continue
        if entry.is_dir():
          stack.append(f"{name}/")
        elif entry.name.rpartition(".")[2].lower() not in EXTENSIONS:
          others += 1
        else:
          found.append((name, _size(entry)))
  if others:
    _log.info("%s: %d files that are no images are left out", root, others)
  return sorted(found)


def read_picture(
  path: str | os.PathLike, drop_alpha: bool = False
) -> np.ndarray:
  """Decode a file as those of a training folder are: uint8 [h, w, 3], upright.

  `drop_alpha` is that of `decoding.to_rgb`. Raises OSError, and Unreadable for
  what is no image.
  """
  with open(path, "rb") as file:
    return decoding.to_rgb(upright(file.read()), drop_alpha)


def upright(data: bytes) -> bytes | np.ndarray:
  """Turn a photograph as its EXIF says; anything else is left as it is."""
  if data[:2] != b"\xff\xd8" or _orientation(data) in (0, 1):
    return data
  try:
    with Image.open(io.BytesIO(data)) as picture:
      return np.array(ImageOps.exif_transpose(picture).convert("RGB"))
  except Exception:  # whoever decodes it will find out why
    return data


def _roots(path):
  """The folder to train on, and that of the validation split or None."""
  training = os.path.join(path, "train")
  if not os.path.isdir(training):
    return path, None
  folders = [os.path.join(path, name) for name in _VALIDATION]
  return training, next(filter(os.path.isdir, folders), None)


def _size(entry):
  try:
    return entry.stat().st_size
  except OSError:  # a broken link: counted, and replaced when it is read
    return -1


def _classes(names):
  parts = [name.split("/") for name in names]
  classes = sorted({part[0] for part in parts if len(part) > 1})
  if len(classes) < 2 or any(len(part) == 1 for part in parts):
    return ()
  return tuple(classes)


def _part(files, split, held_out):
  """The files of a split, by a hash of each name."""
  share = np.array([_hash(name) for name, _ in files])
  held = share < held_out
  if held_out and len(files) > 1:
    # Few files, unlucky hashes: neither split stays empty.
    if not held.any():
      held[share.argmin()] = True
    if held.all():
      held[share.argmax()] = False
  wanted = held if split == "validation" else ~held
  return [file for file, keep in zip(files, wanted) if keep]


def _hash(name: str) -> float:
  digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
  return struct.unpack("<Q", digest[:8])[0] / 2**64


def _orientation(data: bytes) -> int:
  """The orientation of a JPEG, 1..8, or 0 where it names none."""
  start = data.find(b"Exif\0\0", 0, 64) + 6
  if start < 6:
    return 0
  order = {b"II": "<", b"MM": ">"}.get(data[start : start + 2], "")
  try:
    (first,) = struct.unpack_from(f"{order}I", data, start + 4)
    (count,) = struct.unpack_from(f"{order}H", data, start + first)
    for i in range(min(count, 64)):
      entry = start + first + 2 + 12 * i
      tag, _, _, value = struct.unpack_from(f"{order}HHIH", data, entry)
      if tag == 0x0112:
        return value
  except struct.error:
    pass
  return 0
