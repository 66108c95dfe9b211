import concurrent.futures
import io
import subprocess
import sys

import lmdb
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds_lib
from PIL import Image

from data import decoding, pipeline, source, tfds, tfrecord
from data.scenes import builder, render, scene
from launch import prepare
from tests import scenes_data
from tests.data import damage


def test_scenes_hold_what_was_rendered():
  held = scenes_data.scenes_source("train")
  assert len(held) == 48 and held.num_classes == 24
  assert held.class_names == scene.CLASS_NAMES
  assert held.fields == ("segmentation", "depth", "boxes", "box_labels")
  (record,) = held.read(np.array([5]))
  picture = render.render(scene.draw(0, 5), 32)
  np.testing.assert_array_equal(decoding.to_rgb(record["image"]), picture.image)
  np.testing.assert_array_equal(record["boxes"], picture.boxes)
  np.testing.assert_array_equal(record["box_labels"], picture.box_labels)
  assert record["label"] == picture.label


def test_fields_pass_the_pipeline():
  def encode(record, seed):
    del seed
    return {k: record[k][None] for k in ("image", "segmentation", "depth")}

  held = scenes_data.scenes_source("validation")
  (batch,) = pipeline.eval_batches(held, encode, batch_size=16)
  for i in (0, 9):
    picture = render.render(scene.draw(0, (1 << 30) + i), 32)
    np.testing.assert_array_equal(batch["image"][i], picture.image)
    np.testing.assert_array_equal(
      batch["segmentation"][i], picture.segmentation
    )
    np.testing.assert_array_equal(batch["depth"][i], picture.depth)


def test_splits_are_different_scenes():
  first = [
    scenes_data.scenes_source(split).read(np.array([0]))[0]["image"]
    for split in ("train", "validation", "test")
  ]
  assert len(set(first)) == 3


def test_split_notation_and_fingerprints():
  whole = scenes_data.scenes_source("train")
  part = scenes_data.scenes_source("train[10:20]")
  assert len(part) == 10 and part.fingerprint != whole.fingerprint
  assert (
    part.read(np.array([3]))[0]["image"]
    == (whole.read(np.array([13]))[0]["image"])
  )
  assert scenes_data.scenes_source("train").fingerprint == whole.fingerprint
  with pytest.raises(source.DataError, match="no split 'trian'; it has"):
    scenes_data.scenes_source("trian")


def test_any_side_has_a_config(tmp_path):
  for name in ("scenes/64", "scenes/96", "scenes"):
    made = tfds.make_builder(name, str(tmp_path))
    assert made.info.features["image"].shape[0] == made.builder_config.side
  assert builder.parse("96").side == 96 and builder.parse("").name == "64"
  config = builder.parse("40-7-3-9")
  assert (config.side, config.num_train, config.num_held_out) == (40, 7, 3)
  assert config.seed == 9 and config.name == "40-7-3-9"
  for bad in ("x", "64-1", "31", "1025"):
    with pytest.raises(ValueError, match=bad):
      builder.parse(bad)


@pytest.mark.parametrize(
  "name, words",
  [
    ("imagenet2012", ["ILSVRC2012_img_train.tar", "--manual_dir=DIR"]),
    ("lsun/bedroom", ["python -m launch.prepare lsun/bedroom"]),
    ("ffhq", ["images1024x1024", "--manual_dir=DIR"]),
    ("lsun/bedroo", ["bedroo"]),
    ("imagenet2013", ["TFDS knows no dataset"]),
    ("scenes/16", ["side 16 must be in"]),
  ],
)
def test_absent_datasets_say_what_to_do(name, words, tmp_path):
  with pytest.raises(source.DataError) as error:
    tfds.Tfds(name, "train", str(tmp_path))
  message = str(error.value)
  assert name in message and "\n" not in message
  assert all(word in message for word in words)


def test_prepare_command_prints_one_line(tmp_path):
  command = [sys.executable, "-m", "launch.prepare", "ffhq"]
  command += [f"--data_dir={tmp_path}", f"--manual_dir={tmp_path}/none"]
  found = subprocess.run(command, capture_output=True, text=True)
  assert found.returncode == 1 and "Traceback" not in found.stderr
  last = found.stderr.strip().splitlines()[-1]
  assert (
    last.startswith("launch.prepare: error: cannot prepare ffhq")
    and "/none" in last
  )


def test_lsun_needs_its_reader_before_the_download(
  tmp_path, monkeypatch, capsys
):
  def prepared(*_):
    raise AssertionError("the download has begun")

  monkeypatch.setattr(tfds, "prepare", prepared)
  monkeypatch.setitem(sys.modules, "lmdb", None)
  assert prepare.main(["lsun/bedroom", f"--data_dir={tmp_path}"]) == 1
  (line,) = capsys.readouterr().err.strip().splitlines()
  assert "is read with the package lmdb" in line
  assert line.endswith("Try: pip install -e '.[lsun]'")


def test_a_package_that_a_builder_lacks_is_one_line(tmp_path, monkeypatch):
  def lacking(*_):
    raise ImportError("Failed importing x.\n\nInstall it.")

  monkeypatch.setattr(builder.Scenes, "_generate_examples", lacking)
  with pytest.raises(source.DataError) as error:
    tfds.prepare("scenes/32-4-1-0", str(tmp_path))
  assert "cannot prepare" in str(error.value)
  assert "Failed importing x. Install it." in str(error.value)


@pytest.mark.parametrize("below", ["", "cats", "train/cats"])
def test_scenes_are_not_rendered_among_pictures(tmp_path, below):
  name = "scenes/32-4-1-0"
  folder = tmp_path / below
  folder.mkdir(parents=True, exist_ok=True)
  image = np.zeros((8, 8, 3), np.uint8)
  (folder / "x.PNG").write_bytes(damage.encoded(image))
  with pytest.raises(source.DataError, match=":64,laptop") as error:
    tfds.Tfds(name, "train", str(tmp_path))
  assert "\n" not in str(error.value)
  assert not (tmp_path / "scenes").exists()
  if not below:  # where datasets are already, one more may come
    tfds.prepare("scenes/32-4-2-0", str(tmp_path))
    assert len(tfds.Tfds(name, "train", str(tmp_path))) == 4


def test_ffhq_is_split_by_number(tmp_path):
  for number in (3, 0, 59_999, 60_000, 69_999):
    path = tmp_path / "faces" / f"{number // 1000 * 1000:05d}"
    path.mkdir(parents=True, exist_ok=True)
    image = np.full((8, 8, 3), number % 251, np.uint8)
    (path / f"{number:05d}.png").write_bytes(damage.encoded(image))
  (tmp_path / "faces" / "LICENSE.txt").write_text("")
  where = str(tmp_path / "prepared")
  with pytest.raises(source.DataError, match="for validation: it must hold"):
    tfds.prepare("ffhq", where, str(tmp_path / "faces" / "00000"))
  tfds.prepare("ffhq", where, str(tmp_path / "faces"))
  found = {}
  for split in ("train", "validation"):
    held = tfds.Tfds("ffhq", split, where)
    assert held.num_classes == 0
    found[split] = [
      int(decoding.to_rgb(r["image"])[0, 0, 0])
      for r in held.read(np.arange(len(held)))
    ]
  numbers = {"train": (0, 3, 59_999), "validation": (60_000, 69_999)}
  assert found == {k: [n % 251 for n in v] for k, v in numbers.items()}


def _write_lsun(folder, greys):
  """Write an LMDB as LSUN's are: WebP by a hexadecimal key."""
  with (
    lmdb.open(str(folder), map_size=2**20) as held,
    held.begin(write=True) as to,
  ):
    for i, grey in enumerate(greys):
      data = io.BytesIO()
      Image.new("RGB", (20, 16), (grey,) * 3).save(data, "WEBP", lossless=True)
      to.put(f"{i:040x}".encode(), data.getvalue())


@pytest.mark.parametrize("category", ["tower", "cat"])
def test_lsun_is_read_from_its_own_files(tmp_path, category):
  unpacked, where = tmp_path / "unpacked", str(tmp_path / "prepared")
  expected = {"train": [7, 90, 3], "validation": [200]}
  folders = {"train": "tower_train_lmdb", "validation": "tower_val_lmdb"}
  if category == "cat":
    expected.pop("validation")
    folders = {"train": "cat"}
  unpacked.mkdir()
  (unpacked / "README.txt").write_text("")
  name = f"lsun/{category}"
  with pytest.raises(source.DataError, match="_train_lmdb has no"):
    tfds.prepare(name, where, str(unpacked))
  for split, greys in expected.items():
    _write_lsun(unpacked / folders[split], greys)
  tfds.prepare(name, where, str(unpacked))
  for split, greys in expected.items():
    held = tfds.Tfds(name, split, where)
    records = held.read(np.arange(len(held)))
    found = [decoding.to_rgb(record["image"]) for record in records]
    assert [int(x[0, 0, 0]) for x in found] == greys
    assert found[0].shape == (16, 20, 3)
  # What TFDS's own builder would download, and where it would look.
  own = tfds_lib.builder(name, data_dir=where)
  assert own.data_dir == tfds.make_builder(name, where).data_dir
  assert own.url_infos and own.url_infos == tfds.make_builder(name).url_infos


def test_a_manual_folder_that_is_not_there_is_said(tmp_path):
  with pytest.raises(source.DataError, match="nowhere is no folder"):
    tfds.prepare("lsun/tower", str(tmp_path), str(tmp_path / "nowhere"))
  assert not list(tmp_path.iterdir())


def test_tfrecord_datasets_are_read_by_index(tmp_path):
  config = builder.parse("32-40-2-0")
  prepared = builder.Scenes(
    config=config,
    data_dir=str(tmp_path),
    file_format=tfds_lib.core.FileFormat.TFRECORD,
  )
  prepared.download_and_prepare()
  for _ in range(2):  # with and without a stored index
    held = tfds.Tfds("scenes/32-40-2-0", "train[5:]", str(tmp_path))
    assert len(held) == 35
    for i, record in zip((0, 34), held.read(np.array([0, 34]))):
      picture = render.render(scene.draw(0, 5 + i), 32)
      np.testing.assert_array_equal(
        decoding.to_rgb(record["image"]), picture.image
      )
  assert list((tmp_path / "scenes").rglob(".tessera/*.npy"))


class Crowds(tfds_lib.core.GeneratorBasedBuilder):
  """Boxes as Open Images has them, in `bobjects`."""

  VERSION = tfds_lib.core.Version("1.0.0")

  def _info(self):
    features = tfds_lib.features
    held = {
      "bbox": features.BBoxFeature(),
      "label": np.int64,
      "is_group_of": np.int8,
      "is_inside": np.int8,
      "is_occluded": np.int8,
    }
    return self.dataset_info_from_configs(
      features=features.FeaturesDict(
        {
          "image": features.Image(shape=(None, None, 3)),
          "objects": features.Sequence({"label": np.int64}),
          "bobjects": features.Sequence(held),
        }
      )
    )

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    for i in range(2):
      box = tfds_lib.features.BBox(0.0, 0.25, 0.5, 1.0)
      yield (
        i,
        {
          "image": np.full((8, 8, 3), i, np.uint8),
          "objects": [],
          "bobjects": [
            {
              "bbox": box,
              "label": 7,
              "is_group_of": 1,
              "is_inside": 1,
              "is_occluded": -1,  # unknown
            }
          ]
          * i,
        },
      )


def test_boxes_of_open_images_are_found(tmp_path, monkeypatch):
  made = Crowds(
    data_dir=str(tmp_path),
    file_format=tfds_lib.core.FileFormat.ARRAY_RECORD,
  )
  made.download_and_prepare()
  monkeypatch.setattr(tfds, "make_builder", lambda *_: made)
  held = tfds.Tfds("crowds", "train", str(tmp_path))
  assert held.fields == ("boxes", "box_labels", "box_flags")
  found = sorted(held.read(np.arange(2)), key=lambda x: len(x["boxes"]))
  assert found[0]["boxes"].shape == (0, 4)
  np.testing.assert_array_equal(found[1]["boxes"], [[0, 0.25, 0.5, 1]])
  assert found[1]["box_labels"].tolist() == [7]
  assert found[0]["box_flags"].shape == (0,)
  assert found[1]["box_flags"].tolist() == [1 + 8]


def test_tfrecord_index_over_many_files(tmp_path):
  wanted, spans = [], []
  for shard, count in enumerate([3, 1, 5]):
    path = str(tmp_path / f"{shard}.tfrecord")
    data = [f"{shard} {i}".encode() * (i + 1) for i in range(count)]
    with tf.io.TFRecordWriter(path) as writer:
      for record in data:
        writer.write(record)
    skip = 1 if shard == 2 else 0
    wanted += data[skip:]
    spans.append((path, skip, count))
  held = tfrecord.Records(spans, str(tmp_path / "index"))
  assert len(held) == 8
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert list(pool.map(held.__getitem__, range(8))) == wanted
  assert held.__getitems__([7, 0]) == [wanted[7], wanted[0]]


def test_cut_off_tfrecord_is_named(tmp_path):
  path = tmp_path / "x.tfrecord"
  with tf.io.TFRecordWriter(str(path)) as writer:
    writer.write(b"a" * 50)
  path.write_bytes(path.read_bytes()[:-9])
  with pytest.raises(source.DataError, match="is cut off"):
    tfrecord.Records([(str(path), 0, 1)], str(tmp_path))


def test_damaged_records_are_replaced(tmp_path):
  tfds.prepare("scenes/32-64-1-0", str(tmp_path))
  (file,) = tmp_path.rglob("*train.array_record*")
  data = bytearray(file.read_bytes())
  for i in range(len(data) // 3, len(data) // 3 + 64):
    data[i] ^= 0xFF
  file.write_bytes(bytes(data))
  held = tfds.Tfds("scenes/32-64-1-0", "train", str(tmp_path))
  shape = lambda record, seed: {"shape": tf.shape(record["image"])[None]}
  found = pipeline.eval_batches(held, shape, batch_size=64)
  (batch,) = found
  assert 0 < len(found.replaced) < 64
  assert batch["mask"].sum() == 64 - len(found.replaced)
