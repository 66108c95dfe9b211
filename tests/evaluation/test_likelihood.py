import jax
import numpy as np
import pytest

from evaluation import likelihood
from training import sharding

# Rows of six images; image 4 has three rows, and they come unordered.
IDS = np.array([4, 0, 1, 4, 2, 3, 5, 4], np.int32)
BITS = np.array([1.5, 2, 4, 8, 16, 32, 64, 128], np.float32)


def _eval_step(state, batch, key):
  del key
  value = state["scale"] * batch["bits"] * batch["mask"]
  return {"bits_value": value, "elements": 2.0 * batch["mask"], "pixels": value}


def _batches(size, mesh):
  for start in range(0, len(IDS), size):
    ids, bits = IDS[start : start + size], BITS[start : start + size]
    pad = size - len(ids)
    batch = {
      # Padding repeats a real example: only the mask tells it apart.
      "example_id": np.pad(ids, (0, pad), mode="edge"),
      "bits": np.pad(bits, (0, pad), constant_values=np.nan),
      "mask": np.arange(size) < len(ids),
    }
    batch["bits"] = np.nan_to_num(batch["bits"], nan=1e9)
    yield sharding.place_batch(batch, mesh)


def _measure(size, mesh):
  state = {"scale": np.float32(1.0)}
  return likelihood.measure(
    jax.jit(_eval_step), state, _batches(size, mesh), jax.random.key(0)
  )


@pytest.mark.parametrize("size, devices", [(8, 1), (3, 1), (16, 8), (8, 4)])
def test_sums_are_exact_whatever_the_batches(size, devices):
  mesh = sharding.make_mesh({"data": -1}, jax.devices()[:devices])
  sums = _measure(size, mesh)
  np.testing.assert_array_equal(sums.example_ids, np.arange(6))
  np.testing.assert_array_equal(sums.rows, [1, 1, 1, 1, 3, 1])
  np.testing.assert_array_equal(
    sums.sums["bits_value"], [2, 4, 16, 32, 137.5, 64]
  )


def test_rates_divide_totals():
  sums = _measure(8, sharding.make_mesh({"data": 1}, jax.devices()[:1]))
  rates = likelihood.rates(sums, total_of=["bits_value"])
  assert rates["bits_value_per_element"] == 255.5 / 16
  assert rates["bits_per_pixel"] == 1.0
  assert rates["bits_per_image"] == 255.5 / 6
  assert rates["elements_per_image"] == 16 / 6
  assert rates["rows_per_image"] == 8 / 6


def test_many_float32_rows_add_up_in_float64():
  count = 4096
  batch = {
    "example_id": np.zeros(count, np.int32),
    "bits": np.full(count, 1e4 + 1 / 1024, np.float32),
    "mask": np.ones(count, bool),
  }
  sums = likelihood.measure(
    _eval_step, {"scale": 1.0}, [batch] * 64, jax.random.key(0)
  )
  exact = 64 * count * float(np.float32(1e4 + 1 / 1024))
  assert sums.totals()["bits_value"] == exact


def test_empty_split_and_missing_mask_are_errors():
  with pytest.raises(ValueError, match="the split is empty"):
    likelihood.measure(_eval_step, {}, [], jax.random.key(0))
  batch = {"example_id": IDS, "bits": BITS}
  with pytest.raises(ValueError, match="lacks mask"):
    likelihood.measure(_eval_step, {}, [batch], jax.random.key(0))


def test_nonfinite_names_the_example():
  sums = likelihood.Sums(
    np.array([3, 7]), np.ones(2, int), {"bits": np.array([1.0, np.nan])}
  )
  assert sums.nonfinite() == ["bits of example 7"]
