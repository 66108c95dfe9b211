"""Sets of images to measure: `.npz` and `.npy` files, arrays, samples.

All give uint8 RGB of one size, in pieces: nothing holds a whole set. Rules:
floats are rounded, never floored; grey is replicated; alpha is dropped. What
decodes image files makes a set of them from outside. Letters: `b h w`.
"""

import dataclasses
import hashlib
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evaluation import archive, generation


class ImageSetError(ValueError):
  """Images that are absent, unreadable or not of one size."""


@dataclasses.dataclass(frozen=True)
class ImageSet:
  """A set of images of one size.

  Attributes:
    name: For messages and results.
    num: How many there are, with those that cannot be read.
    pieces: Takes the number of images that are wanted at a time and yields
      uint8 [b, h, w, 3] in order, every image once; `batches` makes them of
      that number.
    labels: int [num], or None.
    notes: What a reader of the result should know.
    read: Takes two numbers and returns the images from the first to before the
      second; None where they only come in order.
    left_out: Returns which of 0..num - 1 the last whole pass of `pieces` could
      not read, rising; None where all have to be there.
  """

  name: str
  num: int
  pieces: Callable[[int], Iterator[np.ndarray]]
  labels: np.ndarray | None = None
  notes: tuple[str, ...] = ()
  read: Callable[[int, int], np.ndarray] | None = None
  left_out: Callable[[], Sequence[int]] | None = None

  def batches(
    self, size: int, index: int = 0, count: int = 1
  ) -> Iterator[tuple[int, np.ndarray]]:
    """Yields every `count`-th batch, beginning with the `index`-th.

    The others are not even decoded where the set can be read anywhere.

    Args:
      size: Images in a batch; the last one has fewer.
      index: Which of the processes this is.
      count: How many processes share the set.

    Yields:
      The number of the batch's first image among those that are read, and
      uint8 [b, h, w, 3].

    Raises:
      ImageSetError: Images differ in size, or are not as many as promised.
    """
    read, seen = self.read, 0
    if read is not None and count > 1:
      starts = range(index * size, self.num, count * size)
      yield from self._alike(
        (i, read(i, min(i + size, self.num))) for i in starts
      )
      return
    alike = (piece for _, piece in self._alike(_numbered(self.pieces(size))))
    for start, piece in _numbered(_rebatch(alike, size)):
      if start // size % count == index:
        yield start, piece
      seen = start + len(piece)
    promised = len(self.readable())
    if seen != promised:
      raise ImageSetError(f"{self.name} has {seen} images, not {promised}")

  def readable(self) -> np.ndarray:
    """Returns which of 0..num - 1 the last pass has given, int64, rising."""
    left_out = self.left_out() if self.left_out else ()
    return np.delete(np.arange(self.num), np.asarray(left_out, np.int64))

  def _alike(
    self, numbered: Iterable[tuple[int, np.ndarray]]
  ) -> Iterator[tuple[int, np.ndarray]]:
    """Yields numbers and pieces, once they are found to be of one size."""
    first = None
    for start, piece in numbered:
      first = piece if first is None else first
      if piece.shape[1:] != first.shape[1:]:
        raise ImageSetError(
          f"{self.name}: image {start} is {_size(piece.shape)}, the first is"
          f" {_size(first.shape)}; give them one size with --size=SIDE"
        )
      yield start, piece

  def take(self, num: int) -> "ImageSet":
    """Returns the first `num` images.

    Raises:
      ImageSetError: There are not as many.
    """
    if num > self.num:
      raise ImageSetError(f"{self.name} has {self.num} images, not {num}")

    def pieces(size):
      left = num
      for piece in self.pieces(size):
        yield piece[:left]
        left -= len(piece[:left])
        if not left:
          return

    labels = None if self.labels is None else self.labels[:num]
    return dataclasses.replace(
      self, num=num, pieces=pieces, labels=labels, left_out=None
    )

  def spaced(self, num: int) -> "ImageSet":
    """Returns `num` images, evenly spaced over the set.

    Raises:
      ImageSetError: There are not as many.
    """
    if num > self.num:
      raise ImageSetError(f"{self.name} has {self.num} images, not {num}")
    places = spaced(num, self.num)

    def pieces(size):
      for start, piece in self.batches(size):
        yield piece[among(places, start, len(piece))]

    labels = None if self.labels is None else self.labels[places]
    return dataclasses.replace(
      self, num=num, pieces=pieces, labels=labels, read=None, left_out=None
    )

  def map(
    self, change: Callable[[np.ndarray], np.ndarray], name: str
  ) -> "ImageSet":
    """Returns the set with each piece changed, uint8 to uint8."""

    def pieces(size):
      return map(change, self.pieces(size))

    name = f"{self.name} ({name})"
    read = self.read and (lambda *places: change(self.read(*places)))
    return dataclasses.replace(self, name=name, pieces=pieces, read=read)


def seekable(
  name: str, num: int, read: Callable[[int, int], np.ndarray], **more: Any
) -> ImageSet:
  """Makes a set that can be read anywhere; see `ImageSet.read`."""

  def pieces(size):
    for start in range(0, num, size):
      yield read(start, min(start + size, num))

  return ImageSet(name, num, pieces, read=read, **more)


def unreadable(count: int, total: int, name: str) -> list[str]:
  """Returns a note on images that were left out; [] where there are none."""
  return [f"{count} of {total} images of {name} are unreadable"] * bool(count)


def hashes(images: np.ndarray) -> list[bytes]:
  """Returns the SHA-256 of each image."""
  return [hashlib.sha256(image).digest() for image in images]


def digest(found: Sequence[bytes]) -> str:
  """Returns the SHA-256 of a set in hex, by `hashes` of its images in order."""
  return hashlib.sha256(b"".join(found)).hexdigest()


def spaced(num: int, total: int) -> np.ndarray:
  """Returns `num` places in 0..total - 1, evenly spaced: files are in order.

  The first images of a folder are those of its first classes.
  """
  return np.arange(num, dtype=np.int64) * total // num


def among(places: np.ndarray, start: int, count: int) -> np.ndarray:
  """Returns which of the images from `start` are at sorted places: [count]."""
  return np.isin(np.arange(start, start + count), places)


def open_set(source: Any, size: int = 0) -> ImageSet:
  """Opens a set of images.

  Args:
    source: A folder of samples of `generation`; an `.npz` with `arr_0` or
      `.npy` [n, h, w, c]; an array.
    size: Where positive, images are cropped to this square as ADM does.

  Raises:
    ImageSetError: There are no images, or they cannot be read.
  """
  images = _open_set(source)
  if not size:
    return images
  return images.map(lambda x: crop_squares(x, size), f"center {size}")


def _open_set(source: Any) -> ImageSet:
  if isinstance(source, ImageSet):
    return source
  if isinstance(source, np.ndarray):
    return from_array(source)
  path = Path(source)
  if path.is_dir():
    return from_samples(generation.open_samples(path), str(path))
  if not path.exists():
    raise ImageSetError(f"{path} is absent: give a folder, .npz or .npy")
  if path.suffix == ".npz":
    return from_npz(path)
  if path.suffix == ".npy":
    return from_array(_load(path), str(path))
  raise ImageSetError(f"{path} is neither a folder nor .npz nor .npy")


def from_array(images: np.ndarray, name: str = "an array") -> ImageSet:
  """Makes a set of images in memory, [n, h, w] or [n, h, w, c]."""
  if images.ndim not in (3, 4) or not len(images):
    raise ImageSetError(
      f"{name} has shape {images.shape}, not [n, h, w, c] with n > 0"
    )
  to_rgb(images[:1], name)
  read = lambda start, stop: to_rgb(images[start:stop], name)
  return seekable(name, len(images), read)


def from_samples(samples: generation.Samples, name: str) -> ImageSet:
  """Makes a set of the `images` that a sampling job wrote, with `labels`."""

  def read(start, stop):
    return to_rgb(samples.rows(start, stop, ["images"])["images"], name)

  first = samples.part(0)
  if "images" not in first:
    raise ImageSetError(f"{name}: the samples have no field `images`")
  labels = None
  if "labels" in first:
    parts = samples.parts(["labels"])
    labels = np.concatenate([part["labels"] for part in parts])
  return seekable(name, len(samples), read, labels=labels)


def from_npz(path: str | os.PathLike) -> ImageSet:
  """Makes a set of `arr_0` of an `.npz`, streamed out of the zip.

  `arr_1`, where there is one with as many integers, holds the labels.
  """

  def pieces(size):
    try:
      for array in archive.read(path, size):
        yield to_rgb(array, str(path))
    except archive.Damaged as error:
      raise ImageSetError(str(error)) from error

  try:
    shape, dtype = archive.header(path)
  except archive.Damaged as error:
    raise ImageSetError(str(error)) from error
  if len(shape) not in (3, 4) or not shape[0]:
    raise ImageSetError(f"{path}: arr_0 has shape {shape}, no images")
  if dtype != np.uint8:
    raise ImageSetError(f"{path}: arr_0 is {dtype}, not uint8")
  labels = None
  try:
    with np.load(path, allow_pickle=False) as file:
      if "arr_1" in file.files:
        found = file["arr_1"]
        if found.shape == shape[:1] and found.dtype.kind in "iu":
          labels = found
  except (ValueError, OSError, zipfile.BadZipFile) as error:
    raise ImageSetError(f"{path} cannot be read: {error}") from error
  return ImageSet(str(path), shape[0], pieces, labels)


def to_uint8(pixels: np.ndarray) -> np.ndarray:
  """Rounds floats in [-1, 1] to uint8, clipping: the rule for our samples."""
  scaled = (np.asarray(pixels, np.float32) + 1) * 127.5
  return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def to_rgb(images: np.ndarray, name: str = "images") -> np.ndarray:
  """Returns uint8 images [b, h, w, 3] of grey, RGB or RGBA ones.

  Raises:
    ImageSetError: They are not uint8, or have another number of channels.
  """
  if images.dtype != np.uint8:
    raise ImageSetError(
      f"{name} is {images.dtype}, not uint8; round floats with"
      " image_sets.to_uint8"
    )
  if images.ndim == 3:
    images = images[..., None]
  channels = images.shape[-1]
  if channels in (1, 2):
    return np.repeat(images[..., :1], 3, axis=-1)
  if channels in (3, 4):
    return np.ascontiguousarray(images[..., :3])
  raise ImageSetError(f"{name} has {channels} channels, not 1 to 4")


def crop_square(image: Image.Image, size: int) -> Image.Image:
  """Crops to a square as ADM does: halve by boxes, bicubic, centre crop."""
  while min(image.size) >= 2 * size:
    halved = tuple(x // 2 for x in image.size)
    image = image.resize(halved, resample=Image.Resampling.BOX)
  scale = size / min(image.size)
  scaled = tuple(round(x * scale) for x in image.size)
  image = image.resize(scaled, resample=Image.Resampling.BICUBIC)
  left, top = ((x - size) // 2 for x in image.size)
  return image.crop((left, top, left + size, top + size))


def crop_squares(images: np.ndarray, size: int) -> np.ndarray:
  """Crops uint8 images [b, h, w, 3] by `crop_square`."""
  if images.shape[1:3] == (size, size):
    return images
  cropped = [crop_square(Image.fromarray(image), size) for image in images]
  return np.stack([np.asarray(image) for image in cropped])


def _load(path: Path) -> np.ndarray:
  try:
    return np.load(path, mmap_mode="r", allow_pickle=False)
  except (OSError, ValueError) as error:
    raise ImageSetError(f"{path} cannot be read: {error}") from error


def _numbered(
  pieces: Iterable[np.ndarray],
) -> Iterator[tuple[int, np.ndarray]]:
  """Yields each piece with the number of its first row."""
  start = 0
  for piece in pieces:
    yield start, piece
    start += len(piece)


def _rebatch(parts: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
  """Cuts a stream of arrays into pieces of `size` rows."""
  waiting: list[np.ndarray] = []
  held = 0
  for part in parts:
    waiting.append(part)
    held += len(part)
    if held >= size:
      rows = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
      whole = math.floor(held / size) * size
      for start in range(0, whole, size):
        yield rows[start : start + size]
      held -= whole
      waiting = [rows[whole:]] if held else []
  if held:
    yield np.concatenate(waiting)


def _size(shape: tuple[int, ...]) -> str:
  return f"{shape[1]} x {shape[2]}"
