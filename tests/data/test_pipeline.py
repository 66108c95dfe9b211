import numpy as np
import pytest
import tensorflow as tf

from data import arrays, pipeline, source
from tests.data import damage

SIDE = 8


def images(count):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def numbered(count=11, **fields):
  return arrays.Arrays(images(count), np.arange(count) % 3, **fields)


def encode(record, seed):
  """Two rows of an example, in TensorFlow."""
  image = tf.ensure_shape(record["image"], [SIDE, SIDE, 3])
  return {
    "image": tf.stack([image, 255 - image]),
    "label": tf.repeat(record["label"], 2),
    "seed": tf.stack([seed, seed]),
  }


def array_encode(record, seed):
  """The same in NumPy."""
  image = record["image"]
  return {
    "image": np.stack([image, 255 - image]),
    "label": np.repeat(record["label"], 2),
    "seed": np.stack([seed, seed]),
  }


def one_row(record, seed):
  del seed
  return {"size": tf.shape(record["image"])[None, :2]}


def one_array_row(record, seed):
  del seed
  return {"size": np.array(record["image"].shape[:2], np.int32)[None]}


def take(batches, count):
  return [next(batches) for _ in range(count)]


def assert_same(found, wanted):
  assert len(found) == len(wanted)
  for a, b in zip(found, wanted):
    assert set(a) == set(b)
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])
      assert a[name].dtype == b[name].dtype


def train(module=pipeline, held=None, batch_size=6, **options):
  chosen = encode if module is pipeline else array_encode
  return module.train_batches(
    held or numbered(),
    chosen,
    batch_size=batch_size,
    seed=4,
    rows_per_example=2,
    **options,
  )


def test_arrays_and_tensorflow_give_the_same_batches():
  assert_same(take(train(), 12), take(train(arrays), 12))


def test_every_epoch_has_every_example_once():
  ids = np.concatenate([b["example_id"] for b in take(train(), 22)])
  for epoch in ids[::2].reshape(6, 11):
    np.testing.assert_array_equal(np.sort(epoch), np.arange(11))


@pytest.mark.parametrize("start", [1, 3, 4, 25])
def test_resume_equals_never_having_stopped(start):
  # 11 examples in steps of 3: an epoch ends within step 3.
  whole = take(train(), start + 5)
  assert_same(take(train(start_step=start), 5), whole[start:])


@pytest.mark.parametrize("count", [2, 3])
def test_slices_of_hosts_make_the_batch(count):
  hosts = [
    train(batch_size=12, process_index=p, process_count=count, start_step=2)
    for p in range(count)
  ]
  for whole in take(train(batch_size=12, start_step=2), 4):
    parts = [next(host) for host in hosts]
    for name in whole:
      together = np.concatenate([part[name] for part in parts])
      np.testing.assert_array_equal(together, whole[name])


def test_threads_change_nothing():
  many = train(threads=4)
  assert_same(take(train(threads=1), 8), take(many, 8))


@pytest.mark.parametrize("module", [pipeline, arrays])
@pytest.mark.parametrize("count", [1, 2])
def test_evaluation_covers_every_example_once(module, count):
  chosen = encode if module is pipeline else array_encode
  ids, lengths = [], []
  for p in range(count):
    found = list(
      module.eval_batches(
        numbered(13), chosen, batch_size=4, process_index=p, process_count=count
      )
    )
    lengths.append(len(found))
    for batch in found:
      assert batch["mask"].shape == (4 // count,)
      ids += batch["example_id"][batch["mask"]].tolist()
  assert sorted(ids) == sorted([*range(13), *range(13)])
  assert min(lengths) >= 4


def test_evaluation_is_alike_in_arrays_and_tensorflow():
  for limit in (None, 5):
    options = {"batch_size": 8, "limit": limit}
    found = list(pipeline.eval_batches(numbered(), encode, **options))
    wanted = list(arrays.eval_batches(numbered(), array_encode, **options))
    assert_same(found, wanted)
  assert set(np.concatenate([b["example_id"] for b in found])) == {
    0,
    2,
    4,
    6,
    8,
  }


def test_rows_may_vary_in_evaluation():
  def by_label(record, seed):
    del seed
    return {"label": tf.repeat(record["label"], record["label"])}

  def by_label_in_numpy(record, seed):
    del seed
    return {"label": np.repeat(record["label"], record["label"])}

  found = list(pipeline.eval_batches(numbered(), by_label, batch_size=4))
  assert_same(
    found,
    list(arrays.eval_batches(numbered(), by_label_in_numpy, batch_size=4)),
  )
  labels = np.concatenate([b["label"][b["mask"]] for b in found])
  np.testing.assert_array_equal(labels, [1, 2, 2, 1, 2, 2, 1, 2, 2, 1])


def test_fields_arrive_whether_encoded_or_not():
  maps = np.arange(11 * 64, dtype=np.uint8).reshape(11, 8, 8)
  deep = maps.astype(np.uint16) * 200
  boxes = [np.full((i % 3, 4), i / 11, np.float32) for i in range(11)]

  def fields(record, seed):
    del seed
    boxes = record["boxes"]
    return {
      "segmentation": record["segmentation"][None],
      "depth": record["depth"][None],
      "boxes": tf.stack(
        [tf.reduce_sum(boxes), tf.cast(tf.size(boxes), tf.float32)]
      )[None],
    }

  raw = numbered(segmentation=maps, depth=deep, boxes=boxes)
  files = numbered(
    segmentation=[damage.encoded(m) for m in maps],
    depth=[damage.encoded(d) for d in deep],
    boxes=boxes,
  )
  for held in (raw, files):
    (batch,) = arrays.eval_batches(
      held, lambda record, _: {"depth": record["depth"][None]}, batch_size=11
    )
    np.testing.assert_array_equal(batch["depth"], deep)
    (batch,) = pipeline.eval_batches(held, fields, batch_size=11)
    np.testing.assert_array_equal(batch["segmentation"], maps)
    np.testing.assert_array_equal(batch["depth"], deep)
    sums = [(b.sum(), b.size) for b in boxes]
    np.testing.assert_allclose(batch["boxes"], sums, rtol=1e-6)


def test_damage_is_replaced_in_place_and_counted():
  sound, broken = damage.sound(), damage.broken()
  files = [*sound.values(), *broken.values(), *sound.values()]
  held = arrays.Arrays(files)
  bad = set(range(len(sound), len(sound) + len(broken)))
  options = {"batch_size": 5, "seed": 0}
  found = pipeline.train_batches(held, one_row, **options)
  wanted = arrays.train_batches(held, one_array_row, **options)
  steps = 3 * len(files) // 5
  assert_same(take(found, steps), take(wanted, steps))
  assert set(found.replaced) == set(wanted.replaced) == bad

  found = pipeline.eval_batches(held, one_row, batch_size=5)
  rest = np.concatenate([b["example_id"][b["mask"]] for b in found])
  np.testing.assert_array_equal(rest, sorted(set(range(len(files))) - bad))
  assert set(found.replaced) == bad


def test_a_damaged_map_is_as_a_damaged_image():
  deep = np.arange(11 * SIDE * SIDE, dtype=np.uint16).reshape(11, SIDE, SIDE)
  files = [damage.encoded(d) for d in deep]
  files[3] = files[3][:-30]
  files[7] = damage.encoded(images(1)[0])
  held = numbered(segmentation=[d.astype(np.uint8) for d in deep], depth=files)
  row = lambda record, seed: {"depth": record["depth"][None]}
  tensor = lambda record, seed: {
    "depth": tf.ensure_shape(record["depth"], [SIDE, SIDE])[None]
  }
  options = {"batch_size": 5, "seed": 0}
  wanted = arrays.train_batches(held, row, **options)
  batches = take(wanted, 9)
  for batch in batches:
    np.testing.assert_array_equal(batch["depth"], deep[batch["example_id"]])
  assert set(wanted.replaced) == {3, 7}
  assert "depth: RGB instead of one channel" in wanted.replaced[7]
  found = pipeline.train_batches(held, tensor, **options)
  assert_same(take(found, 9), batches)
  assert found.replaced == wanted.replaced
  rows = pipeline.eval_batches(held, tensor, batch_size=5)
  rest = np.concatenate([b["example_id"][b["mask"]] for b in rows])
  np.testing.assert_array_equal(rest, [0, 1, 2, 4, 5, 6, 8, 9, 10])


def test_damage_does_not_move_the_others():
  files = [damage.encoded(image) for image in images(10)]
  whole = take(
    pipeline.train_batches(arrays.Arrays(files), one_row, batch_size=5, seed=0),
    4,
  )
  files[7] = files[7][:-70]
  torn = take(
    pipeline.train_batches(arrays.Arrays(files), one_row, batch_size=5, seed=0),
    4,
  )
  for a, b in zip(whole, torn):
    wanted = np.where(a["example_id"] == 7, 8, a["example_id"])
    np.testing.assert_array_equal(b["example_id"], wanted)


def test_tensorflow_and_pillow_see_the_same_pixels():
  sound = damage.sound()
  del sound["one_pixel"]
  image = damage.picture()
  alpha = np.linspace(0, 255, image[..., 0].size).reshape(image.shape[:2])
  clear = np.dstack([image, alpha.astype(np.uint8)])
  sound["half_clear"] = damage.encoded(clear)
  colour = tuple(int(v) for v in image[3, 4])
  sound["colour_key"] = damage.encoded(image, transparency=colour)
  names = list(sound)
  held = arrays.Arrays([sound[n] for n in names])
  pixels = lambda record, seed: {"image": record["image"][None]}
  options = {"batch_size": 1}
  found = pipeline.eval_batches(held, pixels, **options)
  wanted = arrays.eval_batches(held, pixels, **options)
  for name, a, b in zip(names, found, wanted):
    difference = np.abs(a["image"].astype(int) - b["image"])
    assert difference.max() <= (3 if name == "cmyk_jpeg" else 1), name


@pytest.mark.parametrize("kind", ["text", "short_jpeg", "short_png"])
def test_nothing_readable_is_one_clear_error(kind):
  held = arrays.Arrays([damage.broken()[kind]] * 3, name="mine")
  with pytest.raises(source.DataError, match="mine: 3 records in a row"):
    next(pipeline.train_batches(held, one_row, batch_size=2, seed=0))
  with pytest.raises(source.DataError, match="mine: 3 records in a row"):
    next(pipeline.eval_batches(held, one_row, batch_size=2))


def test_wrong_rows_are_named():
  options = {"batch_size": 3, "seed": 0, "rows_per_example": 3}
  with pytest.raises(ValueError, match="rows_per_example, 3"):
    pipeline.train_batches(numbered(), encode, **options)
  with pytest.raises(ValueError, match="rows_per_example is 3"):
    next(arrays.train_batches(numbered(), array_encode, **options))


def test_tensorflow_sees_no_accelerator():
  assert not tf.config.get_visible_devices("GPU")
  assert not tf.config.get_visible_devices("TPU")


def test_failure_of_encode_is_one_clear_line():
  def failing(record, seed):
    del seed
    tf.debugging.assert_less(record["label"], 0, "labels are too large")
    return {"label": record["label"][None]}

  for found in (
    pipeline.train_batches(numbered(), failing, batch_size=2, seed=0),
    pipeline.eval_batches(numbered(), failing, batch_size=2),
  ):
    with pytest.raises(source.DataError, match="labels are too large") as error:
      next(found)
    assert "\n" not in str(error.value)
