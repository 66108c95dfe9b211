"""Host preprocessing: sizes, crops, labels, depth; TensorFlow and NumPy."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from data import arrays as data_arrays
from data import pipeline
from vqgan import arrays, encode, frame

RANDOM = np.random.RandomState(0)
SEED = np.array([1, 2], np.int32)


def _record(h, w):
  """A smooth picture, its labels and its depth."""
  y, x = np.mgrid[:h, :w]
  image = np.stack([y * 255 // h, x * 255 // w, (x + y) % 256], -1)
  return {
    "image": image.astype(np.uint8),
    "segmentation": ((y // 8) * 7 + x // 8).astype(np.uint8),
    "depth": (1000 + 10 * y + x).astype(np.uint16),
    "label": np.int32(3),
    "example_id": np.int32(5),
  }


def _both(made, record, train=False):
  """Rows of TensorFlow and of NumPy."""
  name = "make_train_encode" if train else "make_eval_encode"
  tensors = {key: tf.constant(value) for key, value in record.items()}
  row = getattr(encode, name)(made)(tensors, tf.constant(SEED))
  return (
    {key: value.numpy() for key, value in row.items()},
    getattr(arrays, name)(made)(record, SEED),
  )


@pytest.mark.parametrize(
  "h, w, zoom, size",
  [
    (100, 60, 1.0, (53, 32)),
    (60, 100, 1.5, (48, 80)),
    (64, 64, 0, (64, 64)),
    (10, 20, 0, (32, 64)),
    (1, 1000, 1.0, (32, 32000)),
  ],
)
def test_images_are_made_to_cover_the_crop(h, w, zoom, size):
  assert frame.Frame((32, 32), zoom=zoom).resized(h, w) == size


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("target", frame.TARGETS)
def test_both_pipelines_make_the_same_rows(target, train):
  made = frame.Frame((24, 32), zoom=1.2, target=target)
  rows = _both(made, _record(50, 41), train)
  tensor, array = (row[made.input] for row in rows)
  assert tensor.dtype == array.dtype and tensor.shape == array.shape
  assert tensor.shape[:3] == (1, 24, 32)
  for row in rows:
    assert row["label"] == [3] and row["example_id"] == [5]
  if train:
    return  # another stream of random numbers
  if target == "image":
    assert np.abs(tensor.astype(int) - array).max() <= 2
  elif target == "segmentation":
    assert (tensor == array).mean() > 0.9  # ties of the nearest pixel
  else:
    assert np.abs(tensor.astype(int) - array).max() < 0.02 * 65535


def test_training_crops_and_mirrors_at_random():
  made = frame.Frame((16, 16), zoom=2.0, flip=True)
  record = _record(40, 40)
  numpy_rows, tensor_rows, mirrored = set(), set(), 0
  tensors = {key: tf.constant(value) for key, value in record.items()}
  array_fn = arrays.make_train_encode(made)
  tensor_fn = tf.function(encode.make_train_encode(made))
  for i in range(12):
    seed = np.array([i, 7], np.int32)
    row = array_fn(record, seed)["image"]
    numpy_rows.add(row.tobytes())
    mirrored += row[0, 0, 0, 1] > row[0, 0, -1, 1]
    np.testing.assert_array_equal(row, array_fn(record, seed)["image"])
    tensor_rows.add(tensor_fn(tensors, seed)["image"].numpy().tobytes())
  assert len(numpy_rows) > 9 and len(tensor_rows) > 9
  assert 0 < mirrored < 12


def test_fields_are_cut_as_the_picture_is():
  # A picture, labels and depth that all say where a pixel came from.
  y, x = np.mgrid[:40, :60].astype(np.uint8)
  record = {
    **_record(40, 60),
    "image": np.stack([y, x, x], -1),
    "segmentation": x,
    "depth": (x * np.uint16(100)),
    "boxes": np.float32(
      [[0, 0, 0.1, 0.02], [0.25, 0.25, 0.75, 0.75], [0, 0, 0, 0.5]]
    ),
    "box_labels": np.int32([4, 5, 6]),
    "box_flags": np.int32([1, 2, 8]),
  }
  made = frame.Frame((24, 24), zoom=0, flip=True)
  fields = ("segmentation", "depth", "boxes", "box_flags")
  tensors = {key: tf.constant(value) for key, value in record.items()}
  array_fn = arrays.make_train_encode(made, fields)
  tensor_fn = tf.function(encode.make_train_encode(made, fields))
  mirrored = set()
  for i in range(8):
    seed = np.array([i, 7], np.int32)
    tensor_row = tensor_fn(tensors, seed)
    rows = [array_fn(record, seed)]
    rows.append({name: leaf.numpy() for name, leaf in tensor_row.items()})
    for row in rows:
      image = row["image"][0]
      np.testing.assert_array_equal(row["segmentation"][0], image[..., 1])
      depth = row["depth"][0].astype(float) / 65535 * 59
      np.testing.assert_allclose(depth, image[..., 1], atol=0.01)
      left, right = sorted((int(image[0, 0, 1]), int(image[0, -1, 1])))
      flipped = bool(image[0, 0, 1] > image[0, -1, 1])
      mirrored.add(flipped)
      top, bottom = int(image[0, 0, 0]), int(image[-1, 0, 0])
      crop = np.array(
        [top / 40, left / 60, (bottom + 1) / 40, (right + 1) / 60]
      )
      if flipped:
        crop[[1, 3]] = 1 - crop[[3, 1]]
      np.testing.assert_allclose(row["crop"][0], crop, atol=1e-6)
      # The middle box: its pixels are those of rows 10 to 30, columns 15 to 45.
      assert row["box_labels"][0, 0] == 5 and row["box_flags"][0, 0] == 2
      inside = (image[..., 0] >= 10) & (image[..., 0] < 30)
      inside &= (image[..., 1] >= 15) & (image[..., 1] < 45)
      where = np.argwhere(inside)
      box = [*where.min(0), *(where.max(0) + 1)]
      np.testing.assert_allclose(row["boxes"][0, 0] * 24, box, atol=1e-4)
      count = (row["box_labels"] >= 0).sum()
      assert count == 1 + (top < 4 and left < 1.2)
      assert row["boxes"].shape == (1, frame.MAX_BOXES, 4)
      assert row["box_flags"].sum() == 2 + (count > 1)
  assert mirrored == {False, True}


def test_key_points_are_cut_as_the_picture_is():
  figure = np.float32([[[0.5, 0.5, 1], [0.25, 0.75, 0.5], [0, 0, 0]]])
  for count in (1, frame.MAX_FIGURES + 2):
    record = {**_record(40, 60), "keypoints": np.repeat(figure, count, 0)}
    tensors = {key: tf.constant(value) for key, value in record.items()}
    made = frame.Frame((40, 40))
    rows = [
      arrays.make_eval_encode(made, ("keypoints",))(record, SEED),
      encode.make_eval_encode(made, ("keypoints",))(tensors, tf.constant(SEED)),
    ]
    for row in rows:
      found = np.asarray(row["keypoints"])
      assert found.shape == (1, frame.MAX_FIGURES, 3, 3)
      assert found.dtype == np.float32
      # The middle 40 of 60 columns are seen.
      expected = figure[0] * [1, 60 / 40, 1] - [0, 10 / 40, 0]
      np.testing.assert_allclose(found[0, 0], expected, atol=1e-6)
      assert (found[0, count:, :, 2] == 0).all()
  mirrored = frame.Frame((40, 40), flip=True)
  for module in (arrays, encode):
    with pytest.raises(ValueError, match=r"left from right: set data\.flip"):
      module.make_train_encode(mirrored, ("keypoints",))


def test_labels_shift_so_that_unlabelled_is_class_zero():
  record = _record(16, 16)
  record["segmentation"][:] = 255
  made = frame.Frame((16, 16), target="segmentation", label_shift=1)
  for row in _both(made, record):
    assert (row["segmentation"] == 0).all()


@pytest.mark.parametrize("train", [False, True])
def test_labels_that_are_no_classes_are_refused(train):
  record = _record(16, 40)
  record["segmentation"][:] = np.arange(40) % 4
  made = frame.Frame((16, 16), target="segmentation", num_labels=4)
  for row in _both(made, record, train):
    assert row["segmentation"].max() == 3
  fine = record["segmentation"].copy()
  record["segmentation"][0, 0] = 255  # outside of the middle too
  source = data_arrays.Arrays(
    [record["image"]] * 2,
    segmentation=[fine, record["segmentation"]],
    name="maps",
  )
  said = r"^maps: the label map of example 1 holds class 255, of data\.num_l"
  name = "make_train_encode" if train else "make_eval_encode"
  for batches, rows in ((data_arrays, arrays), (pipeline, encode)):
    encode_fn = getattr(rows, name)(made)
    if train:
      found = batches.train_batches(source, encode_fn, batch_size=2, seed=0)
    else:
      found = batches.eval_batches(source, encode_fn, batch_size=2)
    with pytest.raises(ValueError, match=said) as error:
      next(found)
    assert "\n" not in str(error.value)
    assert "data.label_shift; after it, mend the map" in str(error.value)
  # 255 is class 0 here, and 3 is class 4.
  made = dataclasses.replace(made, label_shift=1)
  refusals = (ValueError, tf.errors.InvalidArgumentError)
  for module, convert in ((arrays, np.asarray), (encode, tf.constant)):
    tensors = {key: convert(value) for key, value in record.items()}
    with pytest.raises(refusals, match=r"class 4, of data\.num_labels 4"):
      getattr(module, name)(made)(tensors, convert(SEED))


@pytest.mark.parametrize("kind", ["train", "eval", "codes"])
def test_label_maps_of_a_condition_are_checked_and_keep_their_labels(kind):
  record = {**_record(16, 40), "codes": np.zeros((2, 2), np.uint16)}
  labels = record["segmentation"]
  labels[:] = np.arange(40) % 3
  labels[:, 12:20] = 255  # which is class 0, and 2 is class 3
  refusals = (ValueError, tf.errors.InvalidArgumentError)

  def rows(classes):
    what = (2, 2) if kind == "codes" else frame.Frame((16, 16))
    name = f"make_{kind}_encode"
    for module, convert in ((arrays, np.asarray), (encode, tf.constant)):
      made = getattr(module, name)(what, ("segmentation",), classes)
      tensors = {key: convert(value) for key, value in record.items()}
      yield functools.partial(made, tensors, convert(SEED))

  for run in rows(frame.Classes(4, 1, "condition")):
    # As they are: who reads them, shifts them.
    assert set(np.unique(run()["segmentation"])) <= {0, 1, 2, 255}
  said = "example 5 holds class 3, of condition.num_labels 3: .*, raise "
  for run in rows(frame.Classes(3, 1, "condition")):
    with pytest.raises(refusals, match=said + "condition.num_labels or move"):
      run()
  labels[0, 0] = 199  # outside of the middle too
  said = "holds class 200, of the 4 of condition.stage: .*, choose another "
  for run in rows(frame.Classes(4, 1, "condition", stage=True)):
    with pytest.raises(refusals, match=said + "condition.stage.weights or"):
      run()
  for run in rows(frame.ANY):
    run()


def test_depth_is_stretched_to_its_own_range():
  made = frame.Frame((16, 16), target="depth")
  for row in _both(made, _record(16, 16)):
    assert row["image"].min() == 0 and row["image"].max() == 65535


def test_shades_of_grey_have_one_channel():
  made = frame.Frame((16, 16), channels=1)
  tensor, array = _both(made, _record(20, 30))
  assert tensor["image"].shape == array["image"].shape == (1, 16, 16, 1)
  difference = tensor["image"].astype(int) - array["image"]
  assert np.abs(difference).max() <= 2


def test_pictures_show_what_is_seen():
  made = frame.Frame((16, 24), target="depth")
  row = arrays.make_picture_encode(made)(_record(32, 32), SEED)
  assert row["image"].shape == (1, 16, 24, 3)
  assert row["size"].tolist() == [[16, 24]]
  plain = arrays.make_eval_encode(frame.Frame((16, 24)))
  np.testing.assert_array_equal(
    row["image"], plain(_record(32, 32), SEED)["image"]
  )


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"target": "pose"}, "'pose': choose one of image, segmentation, depth"),
    ({"zoom": 0.5}, "zoom 0.5 must be 0 or at least 1"),
    ({"channels": 4}, "channels 4 must be 1 or 3"),
  ],
)
def test_impossible_frames_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    frame.Frame((16, 16), **fields)


def test_what_codes_lack_is_said_with_what_to_do():
  old, new = {"codes": 0}, {"codes": 0, "crop": 0}
  frame.check_fields(["crop"], new, pictures=False)
  frame.check_fields(["crop"], {"image": 0})  # found as it is cut
  with pytest.raises(ValueError, match=r"has no crop.*tokenize again"):
    frame.check_fields(["crop"], old, pictures=False)
  with pytest.raises(ValueError, match=r"has no image.*train from pictures"):
    frame.check_fields(["crop", "image"], new, pictures=False)
