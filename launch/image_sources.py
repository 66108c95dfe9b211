"""Images to measure, by what a user types.

    FOLDER  FILE.npz  FILE.npy  SAMPLES (of launch.sample)  tfds:NAME/SPLIT

Nothing holds a whole set. With a size, the largest central square is cut out
and resized, as ADM does. `lowres8` and `grey` are baselines: what upsampling
and colouring models are given.
"""

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange, reduce, repeat
from PIL import Image

from data import decoding, folder
from data import source as source_lib
from evaluation import generation, image_sets
from launch import datasets, errors, flags, runs

TFDS = "tfds:"
_LOSSY = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp")


def open_images(
  text: str, *, size: int = 0, transform: str = "", data_dir: str = ""
) -> image_sets.ImageSet:
  """Opens images.

  Args:
    text: see the module.
    size: side of the central square; 0 takes the images as they are.
    transform: "" or one of TRANSFORMS.
    data_dir: where TFDS datasets are.

  Raises:
    ValueError: there are none, or they cannot be read.
  """
  path = _inside(text)
  if text.startswith(TFDS):
    images = from_source(open_tfds(text, data_dir), text, size)
  elif path.is_dir() and not generation.is_samples(path):
    images = from_folder(path, size)
  else:
    images = image_sets.open_set(path, size)
  return transformed(images, transform)


def open_tfds(text: str, data_dir: str = "") -> source_lib.Source:
  """Opens `tfds:NAME/SPLIT`, such as tfds:lsun/bedroom/train."""
  name, _, split = text.removeprefix(TFDS).rpartition("/")
  if not name or not split:
    raise errors.CommandError(
      f"{text} must be tfds:NAME/SPLIT, such as tfds:lsun/bedroom/train"
    )
  return importlib.import_module("data.tfds").Tfds(name, split, data_dir)


def from_source(
  source: source_lib.Source, name: str, size: int = 0
) -> image_sets.ImageSet:
  """Makes a set of the records of a source, decoded with Pillow."""

  def read(start: int, stop: int) -> np.ndarray:
    records = source.read(np.arange(start, stop))
    images = [
      fit(_decode(record, f"{name}, record {start + i}"), size)
      for i, record in enumerate(records)
    ]
    return stack(images, name)

  return image_sets.seekable(name, len(source), read)


def from_folder(path: str | os.PathLike, size: int = 0) -> image_sets.ImageSet:
  """Makes a set of all images below a folder, in the order of their names.

  They are found, turned upright and decoded as a training folder's are, but
  for alpha, which is dropped. Where every image lies in a subfolder, those are
  the classes, numbered in the order of their names.
  """
  names = [name for name, _ in folder.list_images(str(path))]
  if not names:
    raise image_sets.ImageSetError(
      f"{path} has no images ({', '.join(folder.EXTENSIONS)}): is it the right"
      " folder?"
    )
  notes = ()
  lossy = sum(name.lower().endswith(_LOSSY) for name in names)
  if lossy:
    notes = (
      f"{lossy} of {len(names)} images are JPEG or WebP: compression changes"
      " FID; save samples as PNG or .npz",
    )

  def image(name: str) -> np.ndarray:
    file = Path(path, name)
    try:
      return fit(folder.read_picture(file, drop_alpha=True), size)
    except (OSError, decoding.Unreadable) as error:
      raise image_sets.ImageSetError(
        f"{file} is not a readable image: {error}"
      ) from error

  def read(start: int, stop: int) -> np.ndarray:
    some = names[start:stop]
    return stack([image(name) for name in some], str(path), some)

  labels = None
  if all("/" in name for name in names):
    tops = [name.partition("/")[0] for name in names]
    labels = np.unique(tops, return_inverse=True)[1]
  return image_sets.seekable(
    str(path), len(names), read, labels=labels, notes=notes
  )


def from_run(
  run: runs.Run, source: source_lib.Source, size: int = 0
) -> image_sets.ImageSet:
  """Makes a set of a split as the run's model sees it.

  As in training and evaluation, unreadable pictures are left out.
  """
  unreadable: list[int] = []

  def pieces(count: int) -> Iterator[np.ndarray]:
    batches = datasets.image_batches(run.config, run.adapter, source, count)
    for batch in batches:
      rows = np.flatnonzero(batch["mask"])
      if rows.size:  # the last ones may be padding alone
        yield cut(batch["image"][rows], batch["size"][rows], size)
    unreadable[:] = sorted(batches.replaced)

  return image_sets.ImageSet(
    source.name, len(source), pieces, left_out=lambda: unreadable
  )


def cut(images: np.ndarray, sizes: np.ndarray, size: int = 0) -> np.ndarray:
  """Takes what counts of padded images, uint8 [b, h, w, 3]."""
  return stack(
    [fit(image[:h, :w], size) for image, (h, w) in zip(images, sizes)],
    "the images",
  )


def fit(image: np.ndarray, size: int) -> np.ndarray:
  """Crops and resizes to a square of `size`; 0 leaves the image alone."""
  if not size or image.shape[:2] == (size, size):
    return image
  return np.asarray(image_sets.crop_square(Image.fromarray(image), size))


def stack(
  images: list[np.ndarray], name: str, files: Sequence[str] = ()
) -> np.ndarray:
  """Stacks images of one size, with the names of their files if they have any.

  Raises:
    ImageSetError: they differ.
  """
  for i, image in enumerate(images):
    if image.shape != images[0].shape:
      first, other = (
        " ".join([*files[j : j + 1], " x ".join(map(str, x.shape[:2]))])
        for j, x in ((0, images[0]), (i, image))
      )
      raise image_sets.ImageSetError(
        f"{name} differ in size ({first} and {other}): give them one size with"
        " --size=SIDE, which crops them to a square"
      )
  return np.stack(images)


def transformed(
  images: image_sets.ImageSet, transform: str
) -> image_sets.ImageSet:
  """Returns the set with a transform of TRANSFORMS, or "" for none."""
  if not transform:
    return images
  if transform not in TRANSFORMS:
    raise errors.CommandError(
      f"no transform {transform!r}"
      f"{flags.did_you_mean(transform, list(TRANSFORMS))}"
    )
  return images.map(TRANSFORMS[transform], transform)


def lowres8(images: np.ndarray) -> np.ndarray:
  """Replaces each 8 x 8 block by its mean; sides must be multiples of 8."""
  if images.shape[1] % 8 or images.shape[2] % 8:
    raise errors.CommandError(
      f"lowres8 needs sides that are multiples of 8, not {images.shape[1]} x"
      f" {images.shape[2]}: give --size"
    )
  blocks = rearrange(images, "b (h p) (w q) c -> b h p w q c", p=8, q=8)
  means = reduce(blocks.astype(np.float32), "b h p w q c -> b h w c", "mean")
  wide = repeat(means, "b h w c -> b (h p) (w q) c", p=8, q=8)
  return np.rint(wide).astype(np.uint8)


def grey(images: np.ndarray) -> np.ndarray:
  """Replaces colours by their luma (BT.601), three times."""
  luma = images.astype(np.float32) @ np.float32([0.299, 0.587, 0.114])
  return repeat(np.rint(luma).astype(np.uint8), "b h w -> b h w c", c=3)


TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  "lowres8": lowres8,
  "grey": grey,
}


def _decode(record: dict[str, Any], name: str) -> np.ndarray:
  try:
    return decoding.to_rgb(record["image"], drop_alpha=True)
  except decoding.Unreadable as error:
    raise image_sets.ImageSetError(
      f"{name} ({record.get('name', '')}) is no readable image: {error}"
    ) from error


def _inside(text: str) -> Path:
  """Finds the pictures in the folder of a launch.sample."""
  path = Path(text)
  if (path / "parts" / "manifest.json").is_file():
    return path / "images"
  return path
