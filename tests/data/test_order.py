import numpy as np
import pytest

from data import order


@pytest.mark.parametrize("size", [1, 2, 3, 5, 10, 16, 17, 100, 4999])
def test_every_epoch_is_a_permutation(size):
  for epoch in range(3):
    found = order.indices(7, epoch * size, size, size)
    np.testing.assert_array_equal(np.sort(found), np.arange(size))


def test_epochs_and_seeds_differ():
  first = order.indices(0, 0, 100, 100)
  assert (first != order.indices(0, 100, 100, 100)).any()
  assert (first != order.indices(1, 0, 100, 100)).any()
  assert (first != np.arange(100)).any()


def test_any_slice_equals_the_whole():
  size = 37
  whole = order.indices(3, 0, 4 * size, size)
  for start, count in [(0, 5), (30, 20), (36, 40), (74, 1), (100, 48), (9, 0)]:
    part = order.indices(3, start, count, size)
    np.testing.assert_array_equal(part, whole[start : start + count])
  scattered = np.array([80, 3, 36, 37, 3])
  found = order.indices_at(3, scattered, size)
  np.testing.assert_array_equal(found, whole[scattered])


def test_order_never_changes():
  # Made by this code; a checkpoint of an older version must go on alike.
  np.testing.assert_array_equal(
    order.indices(0, 998, 8, 1000), [763, 191, 114, 837, 988, 356, 359, 800]
  )
  np.testing.assert_array_equal(
    order.seeds(5, np.array([0, 9])),
    [[1384973428, 434137424], [172040333, 127780923]],
  )


def test_order_is_uniform():
  # Chi-square of value by place over 4,000 epochs of ten: 99 cells, mean 400.
  found = order.indices(1, 0, 40_000, 10).reshape(-1, 10)
  counts = np.stack([np.bincount(c, minlength=10) for c in found.T])
  assert ((counts - 400) ** 2 / 400).sum() < 150
  # Neighbours in one epoch are not neighbours in the next.
  assert (
    len(np.unique(order.indices(1, 0, 6_000, 3).reshape(-1, 3), axis=0)) == 6
  )


def test_large_datasets_start_anywhere_at_once():
  size = 14_000_000_000
  found = order.indices(0, 3 * size - 2, 4, size)
  assert len(set(found.tolist())) == 4 and found.max() < size


def test_seeds_belong_to_positions():
  whole = order.seeds(2, np.arange(100))
  np.testing.assert_array_equal(order.seeds(2, np.arange(40, 50)), whole[40:50])
  assert whole.dtype == np.int32 and whole.min() >= 0
  assert len(np.unique(whole, axis=0)) == 100
  assert (whole != order.seeds(3, np.arange(100))).any()


def test_subset_is_spread_out():
  np.testing.assert_array_equal(order.subset(4, 10), [0, 2, 5, 7])
  np.testing.assert_array_equal(order.subset(None, 3), [0, 1, 2])
  np.testing.assert_array_equal(order.subset(9, 3), [0, 1, 2])


def test_bad_arguments_are_named():
  with pytest.raises(ValueError, match="size 0"):
    order.indices(0, 0, 1, 0)
  with pytest.raises(ValueError, match="position -1"):
    order.indices(0, -1, 1, 5)
  with pytest.raises(ValueError, match="limit 0"):
    order.subset(0, 5)
