"""Codes on the disk: records come back, and nothing half-written is read."""

import io
import json

import numpy as np
import pytest
import tensorflow as tf

from data import arrays, codes, pipeline, source
from vqgan import arrays as array_encode
from vqgan import encode

GRID = (2, 3)
FIELDS = ["codes", "segmentation", "boxes", "box_labels", "box_flags", "crop"]


def _columns(count, start=0):
  """Examples that are told apart by every field."""
  ids = start + np.arange(count)
  return {
    "codes": ids[:, None, None] + np.arange(6).reshape(GRID) * 1000,
    "label": ids % 3,
    "segmentation": np.repeat(ids, 8 * 12).reshape(count, 8, 12),
    "boxes": [np.full((i % 3, 4), i / 100) for i in ids],
    "box_labels": [np.full(i % 3, i) for i in ids],
    "box_flags": [np.full(i % 3, i % 16) for i in ids],
    "crop": np.tile([0, 0, 1, 1], (count, 1)),
  }


def _write(folder, sizes=(4, 3), **changes):
  start = 0
  for number, size in enumerate(sizes):
    codes.write_shard(folder, number, _columns(size, start))
    start += size
  described = {
    "version": codes.VERSION,
    "tokenizer": "0123456789abcdef",
    "num_codes": 9000,
    "grid": GRID,
    "factor": 4,
    "zoom": 1.0,
    "flips": False,
    "shards": sizes,
    "fields": FIELDS,
    "class_names": ["a", "b", "c"],
    "source_fingerprint": "f",
    **changes,
  }
  (folder / codes.DESCRIPTION).write_text(json.dumps(described))
  return codes.Codes(str(folder.parent), folder.name)


def test_records_come_back_in_order(tmp_path):
  found = _write(tmp_path / "train")
  assert len(found) == 7 and found.num_classes == 3 and found.grid == GRID
  records = found.read(np.array([6, 0, 3, 4]))
  for index, record in zip((6, 0, 3, 4), records):
    assert "image" not in record
    assert record["codes"].dtype == np.uint16
    assert record["codes"][0, 0] == index and record["codes"][1, 2] % 1000 == (
      index
    )
    assert record["label"] == index % 3
    assert (record["segmentation"] == index).all()
    assert record["boxes"].shape == (index % 3, 4)
    assert (record["box_labels"] == index).all()
    assert record["box_flags"].tolist() == [index] * (index % 3)


def test_both_pipelines_make_the_same_batches_without_pictures(tmp_path):
  found = _write(tmp_path / "train")
  fields = ("segmentation", "boxes", "box_flags")
  options = {"batch_size": 4, "seed": 3}
  tensors = pipeline.train_batches(
    found, encode.make_codes_encode(GRID, fields), **options
  )
  plain = arrays.train_batches(
    found, array_encode.make_codes_encode(GRID, fields), **options
  )
  for _ in range(3):
    one, other = next(tensors), next(plain)
    assert set(one) == set(other)
    for name in one:
      np.testing.assert_array_equal(one[name], other[name], name)
      assert one[name].dtype == other[name].dtype
    np.testing.assert_array_equal(one["codes"][:, 0, 0], one["example_id"])
    np.testing.assert_array_equal(one["label"], one["example_id"] % 3)
    real = (one["box_labels"] >= 0).sum(1)
    np.testing.assert_array_equal(real, one["example_id"] % 3)
  last = list(
    pipeline.eval_batches(found, encode.make_codes_encode(GRID), batch_size=4)
  )[-1]
  assert last["mask"].tolist() == [True] * 3 + [False]
  assert last["codes"][:3, 0, 0].tolist() == [4, 5, 6]


def test_a_field_that_is_not_there_is_named(tmp_path):
  found = _write(tmp_path / "train")
  record = {**found.read(np.array([0]))[0], "example_id": 0}
  make = array_encode.make_codes_encode(GRID, ("depth",))
  with pytest.raises(ValueError, match="dataset of codes has no depth"):
    make(record, None)
  make = encode.make_codes_encode(GRID, ("image",))
  with pytest.raises(ValueError, match="dataset of codes has no image"):
    make({name: tf.constant(x) for name, x in record.items()}, None)
  with pytest.raises(ValueError, match="must be"):
    array_encode.make_codes_encode((3, 3))(record, None)


def test_a_shard_may_have_no_boxes(tmp_path):
  found = _write(tmp_path / "train", sizes=(1,))  # example 0 has none
  record = found.read(np.array([0]))[0]
  assert record["boxes"].shape == (0, 4)
  row = array_encode.make_codes_encode(GRID, ("boxes",))(
    {**record, "example_id": 0}, None
  )
  assert (row["box_labels"] == -1).all()


def test_a_shard_is_written_once(tmp_path):
  folder = tmp_path / "train"
  codes.write_shard(folder, 0, _columns(2))
  before = (folder / "shard-00000" / "codes.npy").stat().st_mtime_ns
  codes.write_shard(folder, 0, _columns(2, start=7))
  assert (folder / "shard-00000" / "codes.npy").stat().st_mtime_ns == before
  assert [x.name for x in folder.iterdir()] == ["shard-00000"]
  assert codes.shard_size(folder, 0) == 2
  assert codes.shard_size(folder, 1) is None


def test_what_is_not_whole_is_refused(tmp_path):
  folder = tmp_path / "train"
  _write(folder)
  with pytest.raises(source.DataError, match="its splits are train"):
    codes.Codes(str(tmp_path), "test")
  (folder / "shard-00001" / "codes.npy").write_bytes(b"\x93NUMPY")
  with pytest.raises(source.DataError, match="shard-00001 is damaged"):
    codes.Codes(str(tmp_path), "train")
  (folder / codes.DESCRIPTION).unlink()
  with pytest.raises(source.DataError, match="are not complete"):
    codes.Codes(str(tmp_path), "train")


@pytest.mark.parametrize(
  "name", ["codes", "label", "segmentation", "boxes", "box_labels", "box_start"]
)
def test_a_folder_that_was_cut_short_is_refused(name, tmp_path):
  folder = tmp_path / "train"
  _write(folder)
  file = folder / "shard-00001" / f"{name}.npy"
  whole = file.read_bytes()
  file.write_bytes(whole[:-1])  # a copy that was stopped
  with pytest.raises(source.DataError, match="shard-00001 is damaged"):
    codes.Codes(str(tmp_path), "train")
  np.save(file, np.load(io.BytesIO(whole))[:-1])  # fewer rows than there were
  with pytest.raises(source.DataError, match=r"shard-00001 has .* not \d+ for"):
    codes.Codes(str(tmp_path), "train")
  file.unlink()
  with pytest.raises(source.DataError, match="shard-00001 is damaged"):
    codes.Codes(str(tmp_path), "train")


def test_codes_of_another_grid_than_is_said_are_refused(tmp_path):
  with pytest.raises(source.DataError, match=r"has codes of \(4, 2, 3\)"):
    _write(tmp_path / "train", grid=(3, 2))


@pytest.mark.parametrize("text", ["", "{", "null", "[1]", "{}"])
def test_a_damaged_description_is_refused(text, tmp_path):
  folder = tmp_path / "train"
  _write(folder)
  (folder / codes.DESCRIPTION).write_text(text)
  with pytest.raises(source.DataError, match=r"is damaged|is of version None"):
    codes.Codes(str(tmp_path), "train")


def test_fingerprint_tells_tokenizers_and_sources_apart(tmp_path):
  prints = {
    _write(tmp_path / "a").fingerprint,
    _write(tmp_path / "b", tokenizer="fedcba9876543210").fingerprint,
    _write(tmp_path / "c", source_fingerprint="g").fingerprint,
    _write(tmp_path / "d").fingerprint,
  }
  assert len(prints) == 3
