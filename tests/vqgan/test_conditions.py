"""Conditions: the same tokens as the paper's code, and what they keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import shared
from vqgan import frame
from vqgan.conditions import (
  coordinates,
  edges,
  figure,
  kinds,
  maps,
  objects,
  pool,
)

_WHOLE = jnp.asarray([[0.0, 0.0, 1.0, 1.0]])


def test_coordinates_are_those_of_the_authors_code():
  golden = np.load(shared.shared_dir("golden", "taming", "coord.npz"))
  found = coordinates.tokens(_WHOLE, (16, 16), 16, 1024)
  np.testing.assert_array_equal(found[0], golden["full_indices"][0, 0])
  crop = np.array([[64 / 384, 32 / 320, 320 / 384, 288 / 320]])
  found = coordinates.tokens(jnp.asarray(crop), (16, 16), 16, 1024)
  expected = golden["crop_y64_x32_of_384x320"][0, 0]
  np.testing.assert_array_equal(found[0], expected)
  places = kinds.Places((16, 16), 16, 1024)
  tokens = places.tokens(None, {"crop": _WHOLE}, None)
  shown = np.asarray(places.pictures(None, tokens))[0, ::16, ::16, 0]
  decoded = golden["decoded"][0, 0]  # every 16th pixel
  np.testing.assert_allclose(shown / 255, decoded, atol=3e-3)


def test_label_pool_takes_the_most_frequent_label():
  labels = np.zeros((1, 4, 8), np.uint8)
  labels[0, :2, :2] = [[3, 3], [1, 2]]
  labels[0, 2:, 6:] = [[5, 6], [6, 5]]  # a tie goes to the lower one
  found = np.asarray(pool.labels(jnp.asarray(labels), (2, 4), 7))
  np.testing.assert_array_equal(found, [[[3, 0, 0, 0], [0, 0, 0, 5]]])


def test_level_pool_returns_to_the_colours_it_was_given():
  tokens = jnp.arange(27).reshape(1, 3, 9)
  shades = jnp.repeat(pool.colours(tokens, 3, 3), 4, axis=1)
  np.testing.assert_array_equal(pool.levels(shades, (3, 9), 3), tokens)
  assert pool.levels(shades[:, :, :, :1], (3, 9), 3).max() == 2


def test_quarters_keep_where_a_cell_is_filled():
  mask = np.zeros((1, 8, 8), bool)
  mask[0, 0, 0] = mask[0, 3, 7] = True
  tokens = pool.quarters(jnp.asarray(mask), (2, 2))
  np.testing.assert_array_equal(tokens, [[[8, 1], [0, 0]]])
  np.testing.assert_array_equal(
    np.argwhere(pool.held(tokens)[0]), [[0, 0], [1, 3]]
  )


def test_grid_that_does_not_divide_is_refused():
  with pytest.raises(ValueError, match=r"grid \(3, 4\) must divide"):
    maps.Map("depth", (16, 16), (3, 4), levels=8)


def test_edges_are_thin_and_where_the_step_is():
  image = np.full((1, 16, 24, 3), 40, np.uint8)
  image[:, :, 11:] = 200
  found = np.asarray(edges.canny(jnp.asarray(image)))[0]
  columns = np.flatnonzero(found.any(0))
  assert len(columns) == 1 and columns[0] in (10, 11)
  assert found[:, columns[0]].all()
  turned = edges.canny(jnp.asarray(image.swapaxes(1, 2)))[0]
  np.testing.assert_array_equal(np.asarray(turned).T, found)


def test_weak_edges_count_only_where_strong_ones_continue_them():
  image = np.full((1, 32, 24, 3), 40, np.uint8)
  image[:, :16, 12:] = 200
  image[:, 16:, 12:] = 105  # its gradient is between the thresholds
  found = np.asarray(edges.canny(jnp.asarray(image)))[0]
  assert found[18:, 10:14].any(1).all()
  image[:, :16] = 40
  assert not np.asarray(edges.canny(jnp.asarray(image))).any()


_LAYOUT = objects.Layout(num_tokens=8192, num_classes=80)


def _tokens(layout, boxes, classes, crop=_WHOLE, key=None, flags=None):
  arrays = [jnp.asarray(x)[None] for x in (boxes, classes)]
  flags = None if flags is None else jnp.asarray(flags)[None]
  found = objects.tokens(layout, *arrays, jnp.asarray(crop), flags, key)
  return np.asarray(found[0])


def test_boxes_become_triples_and_the_crop_a_pair():
  assert _LAYOUT.sections == 90 and _LAYOUT.length == 92
  boxes = [[0.0, 0.25, 0.5, 1.0], [0.5, 0.5, 0.5, 0.5]]
  crop = [[0.0, 0.0, 1.0, 0.5]]
  found = _tokens(_LAYOUT, boxes, [7, 3], crop)
  # x of the whole picture is half that of the crop; 0.125 * 89 = 11.1.
  assert found[:3].tolist() == [7, 11, 44 * 90 + 44]
  assert (found[3:90] == 8191).all()  # the second has no area
  assert found[90:].tolist() == [0, 89 * 90 + 44]
  back, classes, seen = objects.boxes_of(_LAYOUT, jnp.asarray(found)[None])
  np.testing.assert_allclose(back[0, 0], [0, 0.25, 0.5, 1.0], atol=0.02)
  assert classes[0].tolist() == [7] + [-1] * 29
  np.testing.assert_allclose(seen, crop, atol=1 / 89)


def test_outlines_are_drawn_where_the_boxes_are():
  layout = objects.Layout(8192, 80, crop=False, most=2)
  found = _tokens(layout, [[0.25, 0.25, 0.75, 0.75]], [7])
  drawn = objects.draw(layout, jnp.asarray(found)[None], (32, 32))
  lines = np.asarray(drawn[0]).any(-1)
  assert lines[8, 8:24].all() and lines[8:24, 23].all()
  assert lines.sum() == 4 * 15


def test_points_become_pairs_of_the_crop():
  layout = objects.Layout(100, 6, points=True, crop=False, most=3)
  found = _tokens(layout, [[0.0, 0.0, 1.0, 1.0]], [5], [[0.2, 0.2, 0.7, 0.7]])
  # Row and column 0.5 * 9 = 4.5, which rounds to even.
  assert found.tolist() == [5, 44, 99, 99, 99, 99]


def test_flags_name_other_categories():
  layout = objects.Layout(512, 6, flags=tuple(objects.FLAGS), most=2)
  found = _tokens(layout, [[0.0, 0.0, 1.0, 1.0]], [5], flags=[0b1001])
  assert found[0] == 5 + 6 * 9
  back = objects.boxes_of(layout, jnp.asarray(found)[None])
  assert back[1].tolist() == [[5, -1]]
  layout = objects.Layout(512, 6, flags=("group",), most=2)
  found = _tokens(layout, [[0.0, 0.0, 1.0, 1.0]], [5], flags=[0b1001])
  assert found[0] == 5 + 6  # inside is not told


def test_pictures_of_few_objects_are_told_apart():
  layout = objects.Layout(400, 40, most=5, least=2)
  boxes = np.tile([[0.1, 0.1, 0.9, 0.9]], (3, 1))
  found = [_tokens(layout, boxes, x) for x in ([3, -1, -1], [3, 0, -1])]
  assert objects.enough(layout, jnp.asarray(found)).tolist() == [False, True]


def test_objects_are_shuffled_and_the_surplus_is_left_out():
  layout = objects.Layout(400, 40, most=5)
  boxes = np.tile([[0.1, 0.1, 0.9, 0.9]], (40, 1))
  classes = np.where(np.arange(40) < 12, np.arange(40), -1)
  drawn = [
    _tokens(layout, boxes, classes, key=jax.random.key(i))[:-2:3]
    for i in range(20)
  ]
  assert len({tuple(x) for x in drawn}) > 15
  assert set(np.concatenate(drawn)) == set(range(12))
  assert all(len(set(x)) == 5 for x in drawn)
  kept = _tokens(layout, boxes, classes)[:-2:3]
  np.testing.assert_array_equal(kept, np.arange(5))


def test_vocabulary_without_room_for_the_classes_is_refused():
  with pytest.raises(ValueError, match="at least 1281"):
    objects.Layout(512, 80, flags=tuple(objects.FLAGS))
  objects.Layout(161, 80, flags=("group",))


def test_layouts_that_cannot_be_are_refused():
  with pytest.raises(ValueError, match="'crowd': choose from group"):
    objects.Layout(512, 6, flags=("crowd",))
  with pytest.raises(ValueError, match="least 3 must be at most"):
    objects.Layout(512, 6, most=2, least=3)


def test_figure_is_drawn_where_its_points_are():
  seen = jnp.asarray([[True, False]])
  boxes = jnp.asarray([[[0.25, 0.25, 0.75, 0.75], [0.0, 0.0, 1.0, 1.0]]])
  drawn = figure.draw(figure.cross(boxes, seen), "cross", (32, 32))
  lines = np.asarray(drawn[0]).any(-1)
  assert lines[8:24, 15:17].any(1).all() and lines[15:17, 8:24].any(0).all()
  assert not lines[:7].any() and not lines[:, 25:].any()  # the other is hidden
  bones = len({tuple(c) for c in np.asarray(drawn[0])[lines]})
  assert bones == 2


def test_skeletons_join_points_that_exist():
  for name, bones in figure.SKELETONS.items():
    joined = {i for bone in bones for i in bone}
    assert joined == set(range(figure.num_points(name)))
  with pytest.raises(ValueError, match="openpose18"):
    figure.num_points("openpose")
  with pytest.raises(ValueError, match="must be"):
    figure.draw(jnp.zeros((1, 1, 3, 3)), "cross", (8, 8))


def _batch(size):
  random = np.random.default_rng(0)
  whole = lambda *shape: random.integers(0, 256, (2, *shape), np.uint8)
  return {
    "segmentation": whole(*size) % 25,
    "depth": whole(*size).astype(np.uint16) * 9 + 400,
    "image": whole(*size, 3),
    "boxes": np.tile(np.float32([0.1, 0.2, 0.8, 0.9]), (2, frame.MAX_BOXES, 1)),
    "box_labels": np.where(np.arange(frame.MAX_BOXES) < 2, 1, -1)[None].repeat(
      2, 0
    ),
    "crop": np.tile(np.float32([0, 0, 1, 1]), (2, 1)),
  }


@pytest.mark.parametrize(
  "made",
  [
    kinds.Nothing(),
    kinds.Places((4, 4), 4, 64),
    maps.Map("segmentation", (16, 16), (4, 4), num_labels=25),
    maps.Map("depth", (16, 16), (4, 4), levels=16),
    maps.Map("edges", (16, 16), (4, 4)),
    maps.Map("lowres", (16, 16), (2, 2), levels=6),
    maps.Map("keypoints", (16, 16), (4, 4), levels=2),
    kinds.Scene(objects.Layout(100, 24, most=4), (16, 16)),
    kinds.Known((4, 4), 10),
  ],
  ids=lambda made: getattr(made, "kind", type(made).__name__),
)
def test_tokens_have_the_length_and_vocabulary_that_are_promised(made):
  batch = _batch((16, 16))
  read = {name: jnp.asarray(batch[name]) for name in made.fields}
  codes = jnp.zeros((2, 4, 4), jnp.int32)
  for key in (None, jax.random.key(0)):
    tokens = made.tokens(None, read, codes, key)
    assert (tokens is None) == (made.vocabulary == 0)
    if tokens is None:
      continue
    assert tokens.shape == (2, made.length) and tokens.dtype == jnp.int32
    assert tokens.min() >= 0 and tokens.max() < made.vocabulary
    shown = made.pictures(None, tokens)
    assert shown is None or (shown.shape, shown.dtype) == (
      (2, 16, 16, 3),
      jnp.uint8,
    )
  for name, spec in made.spec(2).items():
    assert spec.shape == batch[name].shape, name


def test_completion_gives_the_upper_half_or_what_is_drawn():
  made = kinds.Known((4, 4), 10)
  codes = jnp.full((64, 4, 4), 3)
  upper = made.tokens(None, {}, codes).reshape(64, 4, 4)
  assert (upper[:, :2] == 3).all() and (upper[:, 2:] == 10).all()
  drawn = made.tokens(None, {}, codes, jax.random.key(0))
  assert len({x.tobytes() for x in np.asarray(drawn)}) > 8
  known = jnp.zeros((64, 4, 4), bool).at[:, 1, 2].set(True)
  given = made.tokens(None, {"known": known}, codes)
  assert (given == 3).sum() == 64


class _Stage:
  """A first stage that remembers what it was given."""

  num_codes, input = 5, "image"

  def __init__(self, channels, dtype):
    self.wanted = jax.ShapeDtypeStruct((1, 16, 16, channels), dtype)

  def spec(self, batch_size):
    del batch_size
    return self.wanted

  def encode(self, params, rows):
    del params
    self.rows = rows
    return jnp.zeros((len(rows), 4, 4), jnp.int32)


def test_stage_reads_the_stretched_depth_in_its_own_type():
  stage = _Stage(1, jnp.uint16)
  made = maps.Map("depth", (16, 16), (4, 4), stage=stage)
  batch = {"depth": jnp.asarray(_batch((16, 16))["depth"])}
  assert made.tokens(None, batch, None).shape == (2, 16)
  assert stage.rows.dtype == jnp.uint16 and stage.rows.shape == (2, 16, 16, 1)
  assert stage.rows.min() == 0 and stage.rows.max() == 65535


def test_stage_reads_a_low_resolution_image_at_full_size():
  stage = _Stage(3, jnp.uint8)
  made = maps.Map("lowres", (16, 16), (4, 4), stage=stage, shrink=8)
  image = jnp.asarray(_batch((16, 16))["image"])
  made.tokens(None, {"image": image}, None)
  assert stage.rows.shape == (2, 16, 16, 3)
  # Four numbers a channel are left of the picture.
  rank = np.linalg.matrix_rank(np.asarray(stage.rows[0, :, :, 0], float), 4)
  assert rank <= 2


def test_token_beside_a_code_is_the_one_at_its_place_or_nearest_to_it():
  same = kinds.Places((2, 3), 4, 9)
  assert kinds.beside(same, (2, 3), "row") == (0, 1, 2, 3, 4, 5)
  assert kinds.beside(same, (2, 3), "alternate") == (0, 1, 2, 5, 4, 3)
  coarse = maps.Map("lowres", (16, 16), (2, 2), levels=6)
  rows = [(0, 0, 1, 1), (0, 0, 1, 1), (2, 2, 3, 3), (2, 2, 3, 3)]
  assert kinds.beside(coarse, (4, 4), "row") == sum(rows, ())
  fine = kinds.Known((4, 6), 10)
  assert kinds.beside(fine, (2, 3), "row") == (7, 9, 11, 19, 21, 23)


@pytest.mark.parametrize(
  "made",
  [kinds.Nothing(), kinds.Scene(objects.Layout(100, 24, most=4), (16, 16))],
)
def test_tokens_that_are_no_grid_lie_beside_no_code(made):
  with pytest.raises(
    ValueError, match="the tokens of this condition are no grid"
  ):
    kinds.beside(made, (4, 4), "row")


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: maps.Map("depth", (8, 8), (4, 4)), "levels 0 must be at least 2"),
    (
      lambda: maps.Map("segmentation", (8, 8), (4, 4)),
      "num_labels 0 must be at least 2",
    ),
    (lambda: maps.Map("edges", (8, 8), (0, 4)), "must divide"),
    (
      lambda: maps.Map(
        "lowres", (8, 8), (4, 4), stage=_Stage(3, jnp.uint8), shrink=0
      ),
      r"shrink 0 must be in 1\.\.8",
    ),
    (lambda: kinds.Places((4, 4), 4, 0), "levels 0 must be at least 1"),
    (lambda: objects.Layout(64, 5, most=0), "most 0 must be at least 1"),
  ],
)
def test_sizes_that_leave_nothing_to_tell_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()
