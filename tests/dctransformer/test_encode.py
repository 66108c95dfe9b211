"""The tf.data encoder: the definition's integers, honest chunks, any size."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data import arrays as data_arrays
from data import pipeline
from dctransformer import arrays, chunks, dct, encode
from tests import shared
from tests.dctransformer import lists

_CODEC = dct.Codec(8, 75, 6, 6)
_PLAN = chunks.Plan(chunk_len=64, overlap=16, max_chunks=12)


def _record(image, label=3, example_id=7):
  return {
    "image": tf.convert_to_tensor(image),
    "label": tf.constant(label),
    "example_id": tf.constant(example_id),
  }


def _run(encoder, image, seed=(0, 0)):
  row = encoder(_record(image), tf.constant(seed, tf.int32))
  return {name: leaf.numpy() for name, leaf in row.items()}


@functools.cache
def _mapped(encoder, num_seeds, h=48, w=32):
  """Rows of one image under many seeds, stacked [num_seeds, r, ...]."""
  record = _record(lists.picture(h, w))
  seeds = np.stack([np.arange(num_seeds)] * 2, 1).astype(np.int32)
  dataset = tf.data.Dataset.from_tensor_slices(seeds)
  dataset = dataset.map(lambda seed: encoder(record, seed))
  return next(dataset.batch(num_seeds).as_numpy_iterator())


@pytest.mark.parametrize(
  ("codec", "h", "w"),
  [
    (dct.Codec(8, 75, 6, 6), 48, 48),
    (dct.Codec(8, 50, 8, 6, order="luma_first"), 32, 48),
    (dct.Codec(16, 35, 4, 6), 64, 32),
    (dct.Codec(32, 90, 4, 4, max_value=40), 64, 128),
  ],
)
def test_lists_equal_the_definition(codec, h, w):
  image = lists.picture(h, w)
  room = codec.max_total
  row = _run(encode.make_list_encode(codec, resize=None), image)
  expected = lists.definition(codec, image, room)
  assert expected["total"] > 100
  lists.assert_same(codec, row, expected, ties=1e-4)
  coefficients = dct.to_coefficients(codec, image)
  assert row["clipped"] == dct.clip(codec, coefficients)[1]
  assert (codec.max_value == 40) == (row["clipped"] > 0)
  assert row["blocks"].tolist() == [[h // codec.block, w // codec.block]]


@pytest.mark.parametrize("resize", [None, 48])
def test_pictures_of_any_size_share_one_function(resize):
  # As in a pipeline, where no shape is known before the picture is there.
  encode_list = encode.make_list_encode(_CODEC, resize=resize)
  encoder = tf.function(
    lambda image: encode_list(_record(image), tf.zeros(2, tf.int32)),
    input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)],
  )
  for h, w in ((48, 48), (48, 32), (32, 48)):
    image = lists.picture(h, w)
    row = {name: leaf.numpy() for name, leaf in encoder(image).items()}
    expected = lists.definition(_CODEC, image, _CODEC.max_total)
    lists.assert_same(_CODEC, row, expected, ties=1e-4)
    assert row["size"].tolist() == [[h, w]]
    assert row["blocks"].tolist() == [[h // 8, w // 8]]


@pytest.mark.parametrize("name", ["05.png", "14.png", "20.png"])
def test_lists_of_photographs_equal_the_definition(name):
  path = shared.shared_dir("data", "kodak") / name
  image = np.asarray(Image.open(path))
  codec = dct.Codec(8, 75, 64, 96)
  row = _run(encode.make_list_encode(codec, resize=None), image)
  expected = lists.definition(codec, image, codec.max_total)
  # Measured: 2 of 6.6 million, each a tie that float32 sums break differently.
  lists.assert_same(codec, row, expected, ties=1e-5)


def test_a_list_too_long_is_cut_and_says_so():
  image = lists.picture(48, 48)
  encoder = encode.make_list_encode(_CODEC, resize=None, max_elements=50)
  row = _run(encoder, image)
  assert row["channel"].shape == (1, 50)
  assert row["length"] == 50 < row["total"]
  lists.assert_same(_CODEC, row, lists.definition(_CODEC, image, 50), 1e-4)


def test_rows_have_the_promised_types_and_shapes():
  encoder = encode.make_train_encode(
    _CODEC, _PLAN, resize=48, chunks_per_image=2
  )
  room = _PLAN.max_elements
  expected = {
    **{name: ("int16", (2, room)) for name in ("channel", "position", "value")},
    **{name: ("int32", (2, 2)) for name in ("size", "blocks")},
    **{
      name: ("int32", (2,))
      for name in ("length", "total", "clipped", "chunk", "label")
    },
    "example_id": ("int32", (2,)),
  }
  row = _run(encoder, lists.picture(40, 48))
  found = {name: (leaf.dtype.name, leaf.shape) for name, leaf in row.items()}
  assert found == expected
  assert row["label"].tolist() == [3, 3]
  assert row["example_id"].tolist() == [7, 7]
  twin = arrays.make_train_encode(_CODEC, _PLAN, resize=48, chunks_per_image=2)
  record = {"image": lists.picture(40, 48), "label": 3, "example_id": 7}
  row = twin(record, np.array([0, 0], np.int32))
  found = {name: (leaf.dtype.name, leaf.shape) for name, leaf in row.items()}
  assert found == expected


def test_chunks_are_drawn_by_the_formula_and_all_reached():
  encoder = encode.make_train_encode(
    _CODEC, _PLAN, resize=None, chunks_per_image=4
  )
  rows = _mapped(encoder, 1500)
  count = int(
    chunks.num_chunks(_PLAN, rows["length"][0, 0], rows["total"][0, 0])
  )
  assert count > 3
  expected = chunks.probabilities(_PLAN)[count, :count]
  frequency = np.bincount(rows["chunk"].reshape(-1), minlength=count)
  assert len(frequency) == count and frequency.all()
  np.testing.assert_allclose(frequency / 6000, expected, atol=0.025)
  # Chunks of one image are drawn independently.
  same = np.mean(rows["chunk"][:, 0] == rows["chunk"][:, 1])
  assert abs(same - np.sum(expected**2)) < 0.05


def test_flipping_mirrors_half_of_the_images():
  encoder = encode.make_train_encode(_CODEC, _PLAN, resize=None, flip=True)
  rows = _mapped(encoder, 200)
  image = lists.picture(48, 32)
  whole = encode.make_list_encode(_CODEC, resize=None, max_elements=768)
  plain, mirrored = _run(whole, image), _run(whole, image[:, ::-1])
  kinds = []
  for value in rows["value"][:, 0]:
    is_plain = np.array_equal(value, plain["value"][0])
    assert is_plain or np.array_equal(value, mirrored["value"][0])
    kinds.append(is_plain)
  assert 60 < sum(kinds) < 140
  # The mirror and the chunk are drawn apart.
  first = rows["chunk"][:, 0] == 0
  assert first[kinds].any() and (~first[kinds]).any()


def test_rows_are_a_function_of_the_seed():
  encoder = encode.make_train_encode(_CODEC, _PLAN, resize=None, flip=True)
  image = lists.picture(48, 48)
  for seed in ((1, 2), (3, 4)):
    first, again = _run(encoder, image, seed), _run(encoder, image, seed)
    for name in first:
      np.testing.assert_array_equal(first[name], again[name])


@pytest.mark.parametrize("module", [encode, arrays])
def test_evaluation_gives_every_chunk_once(module):
  image = lists.picture(48, 48)
  encoder = module.make_eval_encode(_CODEC, _PLAN, resize=None)
  if module is encode:
    row = _run(encoder, image)
  else:
    row = encoder({"image": image, "label": 3, "example_id": 7}, None)
  total = int(row["total"][0])
  assert row["chunk"].tolist() == list(range(-(-(total + 1) // 64)))
  assert (row["value"] == row["value"][0]).all()
  grey = np.full((48, 48, 3), 128, np.uint8)
  if module is encode:
    row = _run(encoder, grey)
  else:
    row = encoder({"image": grey, "label": 3, "example_id": 7}, None)
  assert row["chunk"].tolist() == [0] and row["total"].tolist() == [0]


@pytest.mark.parametrize(
  ("h", "w", "resize", "fit", "size", "blocks"),
  [
    (48, 48, None, "crop", [48, 48], [6, 6]),
    (47, 33, None, "crop", [32, 32], [4, 4]),
    (47, 33, None, "pad", [47, 33], [6, 6]),
    (1, 1, None, "crop", [1, 1], [2, 2]),
    (1, 1, 48, "crop", [48, 48], [6, 6]),
    (96, 48, 48, "crop", [48, 16], [6, 2]),
    (96, 60, 48, "pad", [48, 30], [6, 4]),
    (500, 3, 48, "crop", [48, 1], [6, 2]),
  ],
)
def test_frames_keep_the_ratio_and_fill_whole_blocks(
  h, w, resize, fit, size, blocks
):
  image = lists.picture(h, w)
  row = _run(encode.make_list_encode(_CODEC, resize=resize, fit=fit), image)
  assert row["size"].tolist() == [size] and row["blocks"].tolist() == [blocks]
  record = {"image": image, "label": 0, "example_id": 0}
  twin = arrays.make_list_encode(_CODEC, resize=resize, fit=fit)(record, None)
  assert twin["size"].tolist() == [size]
  assert twin["blocks"].tolist() == [blocks]
  if resize is None:
    lists.assert_same(_CODEC, row, twin, ties=1e-4)
  else:  # two resizers round their pixels apart
    off = abs(int(row["total"][0]) - int(twin["total"][0]))
    assert off <= 0.1 * row["total"][0] + 5


def test_padding_repeats_the_edge_and_cropping_is_central():
  image = lists.picture(40, 50)
  padded = np.pad(image, ((0, 8), (0, 14), (0, 0)), "edge")
  codec = dct.Codec(8, 75, 6, 8)
  for fit, expected in (("pad", padded), ("crop", image[4:36, 1:49])):
    row = _run(encode.make_list_encode(codec, resize=None, fit=fit), image)
    expected = lists.definition(codec, expected, codec.max_total)
    lists.assert_same(codec, row, expected, ties=1e-4)


@pytest.mark.parametrize("module", [encode, arrays])
@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"resize": 48, "fit": "stretch"}, "fit 'stretch' must be one of"),
    ({"resize": 64}, "resize 64 needs 8 blocks along the long"),
    ({"resize": 49, "fit": "pad"}, "needs 8 blocks along"),
    ({"resize": 0}, "resize 0 must be at least 1"),
  ],
)
def test_a_frame_that_cannot_work_is_refused_early(module, fields, message):
  with pytest.raises(ValueError, match=message):
    module.make_eval_encode(_CODEC, _PLAN, **fields)


def test_an_image_beyond_the_canvas_is_refused():
  image = lists.picture(64, 48)
  with pytest.raises(tf.errors.InvalidArgumentError, match="set resize"):
    _run(encode.make_list_encode(_CODEC, resize=None), image)
  record = {"image": image, "label": 0, "example_id": 0}
  with pytest.raises(ValueError, match="set resize"):
    arrays.make_list_encode(_CODEC, resize=None)(record, None)


@pytest.mark.parametrize("module", [encode, arrays])
def test_no_chunks_at_all_are_refused(module):
  with pytest.raises(ValueError, match="chunks_per_image 0"):
    module.make_train_encode(_CODEC, _PLAN, resize=48, chunks_per_image=0)


def test_both_pipelines_feed_the_same_lists():
  images = [lists.picture(48, 48, seed) for seed in range(5)]
  source = data_arrays.Arrays(np.stack(images), np.arange(5))
  found = []
  for batches, module in ((pipeline, encode), (data_arrays, arrays)):
    encoder = module.make_train_encode(
      _CODEC, _PLAN, resize=48, chunks_per_image=2
    )
    stream = batches.train_batches(
      source, encoder, batch_size=4, seed=1, rows_per_example=2
    )
    found.append([next(stream) for _ in range(2)])
  for ours, theirs in zip(*found):
    assert set(ours) == set(theirs)
    for name in set(ours) - {"chunk"}:
      np.testing.assert_array_equal(ours[name], theirs[name])


def test_stacks_of_arrays_equal_single_records():
  images = np.stack([lists.picture(48, 32, seed) for seed in range(5)])
  rows = arrays.encode_arrays(
    _CODEC, images, np.arange(5) + 3, max_elements=768, batch_size=2
  )
  single = arrays.make_list_encode(_CODEC, resize=None, max_elements=768)
  for i, image in enumerate(images):
    record = {"image": image, "label": i + 3, "example_id": i}
    expected = single(record, None)
    row = {name: leaf[i : i + 1] for name, leaf in rows.items()}
    lists.assert_same(_CODEC, row, expected, ties=1e-4)
    for name in ("size", "blocks", "label", "example_id", "chunk", "clipped"):
      assert row[name].dtype == expected[name].dtype
      np.testing.assert_array_equal(row[name], expected[name])
