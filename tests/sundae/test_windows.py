"""Windows over canvases larger than the grid, and masks of pixels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sundae import decode, masks, windows


@pytest.mark.parametrize(
  ("size", "rows", "cols"),
  [
    ((4, 4), [0], [0]),
    ((6, 4), [0, 2], [0]),
    ((9, 8), [0, 2, 4, 5], [0, 2, 4]),
  ],
)
def test_windows_advance_by_half_and_end_at_the_border(size, rows, cols):
  corners = windows.places(size, (4, 4))
  assert corners.tolist() == [[i, j] for i in rows for j in cols]


@pytest.mark.parametrize("grid", [(4, 4), (2, 6)])
@pytest.mark.parametrize("more", [(8, 8), (5, 0), (9, 14)])
@pytest.mark.parametrize("given", [False, True])
def test_every_window_overlaps_what_is_known(grid, more, given):
  size = tuple(a + b for a, b in zip(grid, more))
  start = tuple(x // 2 for x in more) if given else None
  corners = windows.places(size, grid, start)
  plain = windows.places(size, grid)
  assert sorted(corners.tolist()) == plain.tolist()
  known = np.zeros(size, bool)
  window = lambda at: np.s_[at[0] : at[0] + grid[0], at[1] : at[1] + grid[1]]
  known[window(start or corners[0])] = True
  for corner in corners if given else corners[1:]:
    assert known[window(corner)].any()
    known[window(corner)] = True
  assert known.all()


def test_canvas_smaller_than_the_grid_is_refused():
  with pytest.raises(ValueError, match="3x8 codes must be at least"):
    windows.places((3, 8), (4, 4))


class _Uniform:
  """A model that finds every code as likely as any other."""

  grid, num_codes, num_classes = (4, 4), 50, 0

  def apply(self, params, codes, label):
    """Return logits [b, h, w, v], whatever the codes."""
    return jnp.zeros((*codes.shape, self.num_codes))


def test_every_window_has_noise_of_its_own():
  run = jax.jit(functools.partial(windows.sample, _Uniform()))
  condition = decode.nothing_given(jnp.zeros(3, jnp.int32), (4, 10))
  settings = decode.Settings.create(1, 1.0, 1.0)
  keys = jax.random.split(jax.random.key(0), 3)
  codes, info = run({}, keys, condition, settings)
  assert (info["steps"] == 4).all()  # one in each window
  # What each window after the first adds: two columns, at the same places.
  added = np.asarray(codes[:, :, 4:]).reshape(3, 4, 3, 2)
  same = added[:, :, None] == added[:, :, :, None]  # [b, row, k, k, column]
  apart = ~np.eye(3, dtype=bool)
  assert same[:, :, apart].mean() < 0.1  # by chance one in 50


def test_code_is_kept_only_where_all_its_pixels_are():
  known = np.ones((8, 8), bool)
  known[3, 5] = False  # one pixel of code (0, 1)
  known[4:, :4] = False
  kept = masks.kept_codes(known, 4)
  np.testing.assert_array_equal(kept, [[True, False], [False, True]])


def test_mask_of_another_size_is_refused():
  with pytest.raises(ValueError, match="multiple of the 4 pixels"):
    masks.kept_codes(np.ones((8, 6), bool), 4)


def test_rectangle_is_what_is_unknown():
  known = masks.rectangle((4, 6), 1, 2, 2, 3)
  assert (~known).sum() == 6 and not known[1:3, 2:5].any()


@pytest.mark.parametrize(
  "place", [(0, 0, 0, 1), (-1, 0, 2, 2), (3, 0, 2, 2), (0, 5, 1, 2)]
)
def test_rectangle_beyond_the_image_is_refused(place):
  with pytest.raises(ValueError, match="must lie within"):
    masks.rectangle((4, 6), *place)


def test_composite_puts_known_pixels_back_exactly():
  rng = np.random.default_rng(0)
  made = rng.integers(0, 256, (2, 4, 6, 3), np.uint8)
  image = rng.integers(0, 256, (4, 6, 3), np.uint8)
  known = masks.rectangle((4, 6), 1, 2, 2, 3)
  out = masks.composite(made, image, known)
  np.testing.assert_array_equal(out[:, known], np.stack([image[known]] * 2))
  np.testing.assert_array_equal(out[:, ~known], made[:, ~known])
