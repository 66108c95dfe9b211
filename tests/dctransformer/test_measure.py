"""Measuring: counts and deviations against a dense computation."""

import jax
import numpy as np
import pytest

from dctransformer import arrays, dct, measure
from tests.dctransformer import lists

_CODEC = dct.Codec(8, 75, 6, 6)


def _rows(images, codec=_CODEC, **fields):
  encoder = arrays.make_list_encode(codec, resize=None, **fields)
  return [
    encoder({"image": image, "label": 0, "example_id": i}, None)
    for i, image in enumerate(images)
  ]


def _images():
  return [lists.picture(48, 48, 0), lists.picture(48, 48, 1)] + [
    lists.picture(32, 48, seed) for seed in range(4)
  ]


def test_measured_numbers_equal_a_dense_computation():
  images = _images()
  found = measure.measure(_CODEC, _rows(images), chunk_len=1, std_floor=0.1)
  transform = jax.jit(dct.to_coefficients, static_argnums=0)
  dense = [np.asarray(transform(_CODEC, image)) for image in images]
  totals = [np.count_nonzero(x) for x in dense]
  luma = np.concatenate([x[..., :64].reshape(-1, 64) for x in dense])
  chroma = np.concatenate([x[::2, ::2, 64:].reshape(-1, 128) for x in dense])
  deviation = np.concatenate([luma.std(0), chroma.std(0)])
  np.testing.assert_allclose(
    found["channel_std"], np.maximum(deviation, 0.1), rtol=1e-4
  )
  assert found["channel_std"].dtype == np.float32
  assert (deviation < 0.1).any() and (deviation > 1).any()
  assert found["sizes"].tolist() == [[4, 6], [6, 6]]
  assert found["size_counts"].tolist() == [4, 2]
  assert found["length_percentiles"][0] == min(totals)
  assert found["length_percentiles"][100] == max(totals)
  assert found["mean_length"] == pytest.approx(np.mean(totals))
  largest = [min(x.min() for x in dense), max(x.max() for x in dense)]
  assert found["value_range"].tolist() == largest
  slots = np.percentile(np.array(totals) + 1, 99)
  assert found["max_chunks"] == np.ceil(slots)
  assert measure.measure(_CODEC, _rows(images))["max_chunks"] == 1
  assert found["num_images"] == 6
  assert found["clipped_fraction"] == found["truncated_fraction"] == 0


def test_padding_rows_do_not_count():
  rows = _rows(_images()[:3])
  batch = {
    name: np.concatenate([row[name] for row in rows])
    for row in rows
    for name in row
  }
  batch["mask"] = np.array([True, True, False])
  masked = measure.measure(_CODEC, [batch])
  plain = measure.measure(_CODEC, rows[:2])
  for name in plain:
    np.testing.assert_array_equal(masked[name], plain[name])


def test_clipped_and_truncated_are_counted():
  codec = dct.Codec(8, 75, 6, 6, max_value=2)
  images = _images()[:2]
  rows = _rows(images, codec, max_elements=60)
  shorter, longer = sorted(int(row["total"][0]) for row in rows)
  assert shorter < longer
  found = measure.measure(codec, rows, chunk_len=shorter, max_chunks=1)
  clipped = sum(int(row["clipped"][0]) for row in rows)
  total = sum(int(row["total"][0]) for row in rows)
  assert 0 < found["clipped_fraction"] == clipped / total
  assert found["truncated_fraction"] == 0.5
  assert found["value_range"].tolist() == [-2, 2]


def test_nothing_to_measure_is_an_error():
  with pytest.raises(ValueError, match="no images to measure"):
    measure.measure(_CODEC, [])
