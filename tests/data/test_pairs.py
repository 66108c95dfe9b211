"""Folders of images with maps beside them."""

import json

import numpy as np
import pytest
from PIL import Image

from data import pairs, source
from tests import shared


def _make(root, field="segmentation", count=3, mode="L"):
  """Writes images and maps whose values are the number of the image."""
  for name in ("images", field):
    (root / "train" / name).mkdir(parents=True, exist_ok=True)
  for i in range(count):
    picture = Image.new("RGB", (6, 4), (i, 0, 0))
    picture.save(root / "train" / "images" / f"p{i}.jpg")
    value = 1000 * i if mode == "I;16" else i
    values = Image.new("L" if mode == "P" else mode, (6, 4), value)
    if mode == "P":
      values.putpalette(list(range(255, -1, -1)) * 3)
    values.save(root / "train" / field / f"p{i}.png")


def test_maps_come_with_their_images(tmp_path):
  _make(tmp_path)
  _make(tmp_path, "depth", mode="I;16")
  made = pairs.Pairs(str(tmp_path), "train")
  assert len(made) == 3 and made.fields == ("segmentation", "depth")
  for i, record in zip((2, 0), made.read(np.array([2, 0]))):
    assert record["segmentation"].dtype == np.uint8
    assert record["segmentation"].shape == (4, 6)
    assert (record["segmentation"] == i).all()
    assert record["depth"].dtype == np.uint16
    assert (record["depth"] == 1000 * i).all()
    assert record["image"][:2] == b"\xff\xd8"


def test_palettes_are_labels_not_colours(tmp_path):
  _make(tmp_path, mode="P")
  made = pairs.Pairs(str(tmp_path), "train")
  (record,) = made.read(np.array([2]))
  assert (record["segmentation"] == 2).all()


def test_key_points_come_as_figures(tmp_path):
  _make(tmp_path)
  folder = tmp_path / "train" / "keypoints"
  folder.mkdir()
  figures = [[[0.25, 0.5, 1], [0.75, 0.5, 0]]]
  for i, content in enumerate((figures, [], [[0.5, 0.5, 1]])):
    (folder / f"p{i}.json").write_text(json.dumps(content))
  made = pairs.Pairs(str(tmp_path), "train")
  assert made.fields == ("segmentation", "keypoints")
  one, none, wrong = made.read(np.arange(3))
  np.testing.assert_array_equal(one["keypoints"], figures)
  assert one["keypoints"].dtype == np.float32 and one["image"]
  # A picture without figures has no number of points: it cannot be used.
  for record in (none, wrong):
    assert not record["image"] and "not [[[row" in record["name"]
    assert record["keypoints"].ndim == 3


def test_unreadable_maps_give_an_empty_image(tmp_path):
  _make(tmp_path)
  folder = tmp_path / "train" / "segmentation"
  (folder / "p0.png").write_bytes(b"nothing")
  Image.new("RGB", (6, 4)).save(folder / "p1.png")
  records = pairs.Pairs(str(tmp_path), "train").read(np.arange(3))
  assert [bool(record["image"]) for record in records] == [False, False, True]
  assert "RGB instead of one channel" in records[1]["name"]
  assert records[0]["segmentation"].shape == (1, 1)


def test_fingerprint_changes_with_the_maps(tmp_path):
  _make(tmp_path)
  before = pairs.Pairs(str(tmp_path), "train").fingerprint
  assert before == pairs.Pairs(str(tmp_path), "train").fingerprint
  path = tmp_path / "train" / "segmentation" / "p1.png"
  Image.effect_noise((6, 4), 9).save(path)
  assert before != pairs.Pairs(str(tmp_path), "train").fingerprint


def test_what_is_missing_is_said(tmp_path):
  with pytest.raises(source.DataError, match=r"there is no .*/train/images"):
    pairs.Pairs(str(tmp_path), "train")
  (tmp_path / "train" / "images").mkdir(parents=True)
  with pytest.raises(source.DataError, match="it has none"):
    pairs.Pairs(str(tmp_path), "train")
  _make(tmp_path)
  (tmp_path / "train" / "segmentation" / "p1.png").unlink()
  with pytest.raises(source.DataError, match=r"1 of 3 .* no segmentation"):
    pairs.Pairs(str(tmp_path), "train")


def test_photographs_with_label_maps_are_read(tmp_path):
  folder = shared.shared_dir("data", "ade20k")
  (tmp_path / "train").mkdir()
  for name, theirs in (
    ("images", "ade20k_images"),
    ("segmentation", "ade20k_segmentations"),
  ):
    (tmp_path / "train" / name).symlink_to(folder / theirs)
  made = pairs.Pairs(str(tmp_path), "train")
  assert len(made) == 30
  for record in made.read(np.arange(3)):
    assert record["segmentation"].max() <= 150
    assert len(np.unique(record["segmentation"])) > 2
