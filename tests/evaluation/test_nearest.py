import numpy as np
import pytest
from PIL import Image

from evaluation import moments, nearest

RANDOM = np.random.RandomState(0)
TRAIN = RANDOM.randn(70, 12).astype(np.float32)
SAMPLES = RANDOM.randn(33, 12).astype(np.float32)


@pytest.mark.parametrize("block", [1, 16, 1000])
def test_neighbours_are_those_of_brute_force(block):
  found = nearest.find(SAMPLES, TRAIN, k=3, block=block)
  direct = np.linalg.norm(SAMPLES[:, None] - TRAIN[None], axis=-1)
  np.testing.assert_array_equal(found.indices, direct.argsort(1)[:, :3])
  np.testing.assert_allclose(found.distances, np.sort(direct)[:, :3], rtol=1e-5)


def test_a_copy_is_found_and_a_set_can_leave_itself_out():
  found = nearest.find(TRAIN[10:20], TRAIN)
  np.testing.assert_array_equal(found.indices[:, 0], np.arange(10, 20))
  assert found.distances.max() < 1e-3
  found = nearest.find(TRAIN, TRAIN, block=16, exclude_self=True)
  assert (found.indices[:, 0] != np.arange(70)).all()
  assert found.distances.min() > 0.1


def test_ties_go_to_the_lowest_number():
  among = np.zeros((9, 2))
  found = nearest.find(np.ones((2, 2)), among, k=2, block=2)
  np.testing.assert_array_equal(found.indices, [[0, 1], [0, 1]])


def test_copying_is_told_from_making():
  held_out = RANDOM.randn(500, 12)
  copies = TRAIN + 1e-3 * RANDOM.randn(70, 12)
  assert nearest.memorised_fraction(copies, TRAIN, held_out) == 1
  honest = RANDOM.randn(500, 12)
  assert nearest.memorised_fraction(honest, TRAIN, held_out) < 0.05


def test_a_figure_is_drawn(tmp_path):
  images = RANDOM.randint(100, 256, (2, 8, 8, 3), np.uint8)
  near = RANDOM.randint(100, 256, (2, 3, 8, 8, 3), np.uint8)
  distances = np.array([[1.0, 2.0, 3.0], [0.1, 2.0, 3.0]])
  path = tmp_path / "near.png"
  nearest.figure(images, near, distances, np.arange(1, 9.0), path)
  near_one = np.asarray(Image.open(path).convert("RGB"), int)
  nearest.figure(images, near, distances + 2, np.arange(1, 9.0), path)
  natural = np.asarray(Image.open(path).convert("RGB"), int)
  # Red is the colour of a distance that is not natural, and of nothing else.
  red = [
    (np.abs(x - [214, 39, 40]).sum(-1) < 9).sum() for x in (near_one, natural)
  ]
  assert red[0] > 5 + red[1]


def test_bad_features_are_named():
  with pytest.raises(moments.FeatureError, match="widths 12 and 5"):
    nearest.find(SAMPLES, TRAIN[:, :5])
  with pytest.raises(moments.FeatureError, match="70 examples have no 99"):
    nearest.find(SAMPLES, TRAIN, k=99)
