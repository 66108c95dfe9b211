import logging

import numpy as np
import pytest
from PIL import Image

from data import arrays, decoding, folder, source
from tests.data import damage


def fill(root, names):
  for i, name in enumerate(names):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(damage.encoded(np.full((4, 4, 3), i, np.uint8)))
  return str(root)


def names(held):
  return [record["name"] for record in held.read(np.arange(len(held)))]


def test_classes_are_the_first_folders(tmp_path):
  root = fill(
    tmp_path, ["dog/b.png", "cat/deep/er/a.PNG", "cat/c.png", "ant/x.png"]
  )
  held = folder.Folder(root)
  assert held.class_names == ("ant", "cat", "dog") and held.num_classes == 3
  assert names(held) == [
    "ant/x.png",
    "cat/c.png",
    "cat/deep/er/a.PNG",
    "dog/b.png",
  ]
  records = held.read(np.array([3, 1]))
  assert [record["label"] for record in records] == [2, 1]
  assert (decoding.to_rgb(records[0]["image"]) == 0).all()


@pytest.mark.parametrize(
  "files", [["a.png", "b.png"], ["a.png", "x/b.png"], ["x/a.png", "x/b.png"]]
)
def test_other_folders_have_no_classes(tmp_path, files):
  held = folder.Folder(fill(tmp_path, files))
  assert held.num_classes == 0 and held.class_names == () and len(held) == 2


def test_only_images_are_listed(tmp_path, caplog):
  fill(tmp_path, ["a.png", ".hidden.png", ".cache/b.png"])
  (tmp_path / "readme.txt").write_text("no image")
  with caplog.at_level(logging.INFO):
    assert names(folder.Folder(str(tmp_path))) == ["a.png"]
  assert "1 files that are no images" in caplog.text


def test_linked_folders_do_not_loop(tmp_path):
  root = fill(tmp_path, ["x/a.png"])
  (tmp_path / "x" / "up").symlink_to(tmp_path)
  (tmp_path / "x" / "lost.png").symlink_to(tmp_path / "nowhere")
  held = folder.Folder(root)
  assert len(held) == 2
  lost = held.read(np.array([1]))[0]
  assert lost["image"] == b"" and "No such file" in lost["name"]


def test_split_is_stable_and_complete(tmp_path):
  files = [f"{i}.png" for i in range(200)]
  root = fill(tmp_path, files)
  options = {"held_out": 0.2}
  kept = set(names(folder.Folder(root, "train", **options)))
  held = set(names(folder.Folder(root, "validation", **options)))
  assert kept | held == set(files) and not kept & held
  assert 20 < len(held) < 60
  fill(tmp_path, [f"!{i}.png" for i in range(50)])
  assert held <= set(names(folder.Folder(root, "validation", **options)))


def test_small_folders_have_both_splits(tmp_path):
  root = fill(tmp_path, ["a.png", "b.png"])
  for share in (0.001, 0.999):
    for split in ("train", "validation"):
      assert len(folder.Folder(root, split, held_out=share)) == 1
  with pytest.raises(source.DataError, match="held_out 0"):
    folder.Folder(root, "validation", held_out=0.0)
  assert len(folder.Folder(root, "train", held_out=0.0)) == 2


def test_folders_of_splits_are_the_splits(tmp_path):
  root = fill(
    tmp_path, ["train/b/1.png", "train/a/2.png", "val/a/3.png", "val/a/4.png"]
  )
  kept = folder.Folder(root, "train")
  held = folder.Folder(root, "validation")
  assert kept.class_names == held.class_names == ("a", "b")
  assert names(kept) == ["a/2.png", "b/1.png"]
  assert names(held) == ["a/3.png", "a/4.png"]
  fill(tmp_path, ["val/c/3.png"])
  with pytest.raises(source.DataError, match="'c'"):
    folder.Folder(root, "validation")


def test_fingerprint_sees_files_come_and_change(tmp_path):
  root = fill(tmp_path, ["a.png", "b.png"])
  first = folder.Folder(root).fingerprint
  assert folder.Folder(root).fingerprint == first
  fill(tmp_path, ["c.png"])
  more = folder.Folder(root).fingerprint
  (tmp_path / "a.png").write_bytes(b"")
  assert len({first, more, folder.Folder(root).fingerprint}) == 3


def test_photographs_are_turned_upright(tmp_path):
  image = np.zeros([10, 20, 3], np.uint8)
  image[:, 10:] = 250
  exif = Image.Exif()
  for orientation in range(1, 9):
    exif[0x0112] = orientation
    data = damage.encoded(image, "JPEG", quality=95, exif=exif)
    (tmp_path / f"{orientation}.jpg").write_bytes(data)
  held = folder.Folder(str(tmp_path))
  found = [r["image"] for r in held.read(np.arange(8))]
  assert isinstance(found[0], bytes)
  bright = lambda image: decoding.to_rgb(image).mean(-1) > 125
  assert bright(found[2])[:, :10].all() and not bright(found[2])[:, 10:].any()
  for turned in (5, 6):  # the right half comes down
    assert bright(found[turned])[10:].all() or bright(found[turned])[:10].all()
  assert bright(found[5])[10:].all() and bright(found[7])[:10].all()


def test_errors_name_the_folder(tmp_path):
  with pytest.raises(source.DataError, match=f"no images in {tmp_path}"):
    folder.Folder(str(tmp_path))
  with pytest.raises(source.DataError, match=r"no folder .*nowhere"):
    folder.Folder(str(tmp_path / "nowhere"))
  with pytest.raises(source.DataError, match="'test' must be one of"):
    folder.Folder(str(tmp_path), "test")


def test_arrays_from_npz(tmp_path):
  path = str(tmp_path / "x.npz")
  image = np.zeros([3, 4, 4, 3], np.uint8)
  np.savez(path, arr_0=image, labels=np.array([0, 2, 1]))
  held = arrays.Arrays.from_npz(path)
  assert len(held) == 3 and held.num_classes == 3
  assert held.read(np.array([1]))[0]["label"] == 2
  np.savez(path, train_images=image, test_images=image[:1])
  assert len(arrays.Arrays.from_npz(path, "test")) == 1
  with pytest.raises(source.DataError, match="must hold images or arr_0"):
    arrays.Arrays.from_npz(path)
  whole = (tmp_path / "x.npz").read_bytes()
  (tmp_path / "y.npz").write_bytes(whole[: len(whole) // 2])
  with pytest.raises(source.DataError, match=r"no readable \.npz"):
    arrays.Arrays.from_npz(str(tmp_path / "y.npz"))
  with pytest.raises(source.DataError, match="3 images and 2 labels"):
    arrays.Arrays(image, np.zeros(2, int))
