"""Folders of pictures to measure."""

import numpy as np
import pytest
from PIL import Image

from data import folder as training_folder
from evaluation import image_sets
from launch import image_sources

IMAGES = np.random.RandomState(0).randint(0, 256, (11, 6, 5, 3), np.uint8)


def everything(images, size=4):
  return np.concatenate([piece for _, piece in images.batches(size)])


def folder(path, images=IMAGES, suffix=".png"):
  path.mkdir(parents=True, exist_ok=True)
  for i, image in enumerate(images):
    Image.fromarray(image).save(path / f"{i:03d}{suffix}")
  return path


def test_every_picture_is_given_once_in_order(tmp_path):
  images = image_sources.open_images(str(folder(tmp_path)))
  assert images.num == 11 and images.labels is None
  for size in (1, 4, 11, 50):
    np.testing.assert_array_equal(everything(images, size), IMAGES)


def test_class_folders_become_labels(tmp_path):
  folder(tmp_path / "b", IMAGES[:2])
  folder(tmp_path / "a", IMAGES[2:5])
  images = image_sources.from_folder(tmp_path)
  np.testing.assert_array_equal(images.labels, [0, 0, 0, 1, 1])
  np.testing.assert_array_equal(everything(images), IMAGES[[2, 3, 4, 0, 1]])


def test_odd_pictures_become_rgb(tmp_path):
  grey = IMAGES[0, :, :, 0]
  alpha = np.dstack([IMAGES[0], np.zeros((6, 5), np.uint8)])
  deep = grey.astype(np.uint16) * 257
  Image.fromarray(grey).save(tmp_path / "0.png")
  Image.fromarray(alpha).save(tmp_path / "1.png")
  Image.fromarray(deep).save(tmp_path / "2.png")
  found = everything(image_sources.from_folder(tmp_path))
  np.testing.assert_array_equal(found[0], np.dstack([grey] * 3))
  np.testing.assert_array_equal(found[1], IMAGES[0])
  np.testing.assert_array_equal(found[2], np.dstack([grey] * 3))


def test_pictures_are_those_that_training_sees(tmp_path):
  photograph = np.zeros((16, 32, 3), np.uint8)
  photograph[:, 16:] = 255
  exif = Image.Exif()
  exif[0x0112] = 6  # turned by a quarter
  Image.fromarray(photograph).save(tmp_path / "0.jpg", exif=exif, quality=95)
  Image.fromarray(photograph).rotate(-90, expand=True).save(tmp_path / "1.gif")
  deep = np.arange(32 * 16, dtype=np.uint16).reshape(32, 16) * 128
  Image.fromarray(deep).save(tmp_path / "2.PNG")
  (tmp_path / "notes.txt").write_text("")
  found = everything(image_sources.open_images(str(tmp_path)))
  assert abs(found[0].astype(int) - found[1]).max() < 10
  assert found[1][-1].min() == 255 and found[1][0].max() == 0
  records = training_folder.Folder(str(tmp_path)).read(np.arange(3))
  for image, record in zip(found, records, strict=True):
    seen = image_sources.decoding.to_rgb(record["image"])
    np.testing.assert_array_equal(image, seen)


def test_pictures_are_cropped_to_squares_on_request(tmp_path):
  image = np.zeros((64, 100, 3), np.uint8)
  image[:, 14:86] = 200
  folder(tmp_path, [image])
  found = everything(image_sources.open_images(str(tmp_path), size=16))
  assert found.shape == (1, 16, 16, 3)
  assert (found[:, :, 2:-2] == 200).all() and found.min() > 150


def test_lossy_samples_are_noted(tmp_path):
  images = image_sources.from_folder(folder(tmp_path, suffix=".jpg"))
  assert "11 of 11 images are JPEG" in images.notes[0]


def test_bad_folders_are_named(tmp_path):
  error = image_sets.ImageSetError
  (tmp_path / "empty").mkdir()
  with pytest.raises(error, match="has no images"):
    image_sources.from_folder(tmp_path / "empty")
  mixed = folder(tmp_path / "mixed", [*IMAGES[:5], IMAGES[0, :4]])
  for size in (2, 6):
    with pytest.raises(error, match="4 x 5"):
      everything(image_sources.from_folder(mixed), size)
  broken = folder(tmp_path / "broken")
  (broken / "005.png").write_bytes(b"not a picture")
  with pytest.raises(error, match=r"005\.png is not a readable"):
    everything(image_sources.from_folder(broken))
