"""Animations and strips of frames."""

import numpy as np
import pytest
from PIL import Image

from launch import animation


@pytest.fixture
def frames():
  """Return frames of five samples, each step of one shade."""
  shade = np.arange(0, 200, 10, dtype=np.uint8)
  return np.broadcast_to(shade[None, :, None, None, None], (5, 20, 4, 6, 3))


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_animation_shows_every_step_of_all_samples(kind, frames, tmp_path):
  path = animation.write(tmp_path / "steps", frames, kind)
  with Image.open(path) as shown:
    assert shown.n_frames == 20
    assert shown.size == (3 * 6 + 2 * 2, 2 * 4 + 2)
    shown.seek(19)
    last = np.asarray(shown.convert("RGB"))
  assert abs(int(last[0, 0, 0]) - 190) < 6


def test_strip_has_a_row_a_sample_and_the_ends(frames, tmp_path):
  path = animation.write(tmp_path / "steps", frames, "strip")
  image = np.asarray(Image.open(path))
  assert image.shape == (5 * 6 - 2, 12 * 8 - 2, 3)
  assert image[0, 0, 0] == 0 and image[0, -1, 0] == 190


@pytest.mark.parametrize("kind", ["gif", "strip"])
def test_large_pictures_are_shown_smaller(kind, tmp_path):
  frames = np.zeros((2, 3, 1500, 1200, 3), np.uint8)
  with Image.open(animation.write(tmp_path / "x", frames, kind)) as shown:
    assert max(shown.size) == 2048 and min(shown.size) > 1000


def test_long_animations_keep_first_and_last():
  few = animation.chosen(1000)
  assert len(few) == 64 and few[0] == 0 and few[-1] == 999
  assert animation.chosen(3).tolist() == [0, 1, 2]
