"""Orders of a grid: the authors' permutations, exact inverses."""

import numpy as np
import pytest

from tests import shared
from vqgan import orders

_THEIRS = {
  "spiral_in": "SpiralIn",
  "spiral_out": "SpiralOut",
  "z_curve": "ZCurve",
  "subsample": "Subsample",
  "alternate": "AlternateParsing",
  "random": "Random",
}


@pytest.mark.parametrize("name", sorted(_THEIRS))
@pytest.mark.parametrize("side", [4, 8, 16])
def test_order_is_the_authors(name, side):
  reference = np.load(shared.shared_dir() / "golden/taming/permuters.npz")
  found = orders.order(name, side, side)
  np.testing.assert_array_equal(found, reference[f"{_THEIRS[name]}_{side}"])
  back = reference[f"{_THEIRS[name]}_{side}_back"]
  np.testing.assert_array_equal(orders.inverse(found), back)


@pytest.mark.parametrize("name", orders.NAMES)
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 7), (6, 4), (5, 5)])
def test_any_grid_is_permuted_and_restored(name, size):
  found = orders.order(name, *size)
  places = np.arange(size[0] * size[1])
  np.testing.assert_array_equal(np.sort(found), places)
  np.testing.assert_array_equal(places[found][orders.inverse(found)], places)


def test_orders_of_a_wide_grid():
  # Places of two rows of three: 0 1 2 / 3 4 5.
  expected = {
    "row": [0, 1, 2, 3, 4, 5],
    "spiral_in": [5, 2, 1, 0, 3, 4],
    "spiral_out": [4, 3, 0, 1, 2, 5],
    "z_curve": [0, 1, 3, 4, 2, 5],
    "subsample": [0, 2, 1, 3, 5, 4],
    "alternate": [0, 1, 2, 5, 4, 3],
  }
  for name, order in expected.items():
    np.testing.assert_array_equal(orders.order(name, 2, 3), order)


def test_unknown_order_is_named():
  with pytest.raises(ValueError, match='"hilbert": choose one of row'):
    orders.order("hilbert", 4, 4)


def test_order_cannot_be_changed_by_a_caller():
  with pytest.raises(ValueError, match="read-only"):
    orders.order("row", 2, 2)[0] = 1
