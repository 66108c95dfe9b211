import io

import numpy as np
import pytest
from PIL import Image

from data.scenes import render, rules, scene, worker

NUM = 300


@pytest.fixture(scope="module")
def pictures():
  return [render.render(scene.draw(0, i), 64) for i in range(NUM)]


def stack(pictures):
  return np.stack([picture.image for picture in pictures])


def compressed(images, quality=50):
  """After a JPEG round trip with 4:2:0."""
  found = []
  for image in images:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=2)
    found.append(np.asarray(Image.open(file)))
  return np.stack(found)


def main_colour(pictures):
  labels = np.array([picture.label for picture in pictures])
  return labels // len(scene.SHAPES)


def test_scenes_never_change():
  # Drawn by this code; raw random words are the same on every machine.
  drawn = [scene.draw(0, index) for index in range(4)]
  labels = [[solid.label for solid in d.solids] for d in drawn]
  assert labels == [[4], [18, 15], [9, 1], [9]]
  last = drawn[3].solids[-1]
  np.testing.assert_allclose([last.x, last.y], [-0.342897812, -1.198632755])
  assert scene.draw(0, 0) == drawn[0]
  assert drawn[1] != drawn[0] and scene.draw(1, 0) != drawn[0]


def test_same_scene_at_every_side():
  for index in range(3):
    drawn = scene.draw(0, index)
    small = render.render(drawn, 48)
    large = render.render(drawn, 192)
    shrunk = large.image.reshape(48, 4, 48, 4, 3).mean((1, 3))
    assert np.abs(shrunk - small.image).mean() < 1.5
    np.testing.assert_allclose(small.boxes, large.boxes, atol=0.012)
    assert small.label == large.label


def test_colour_rule_is_right_on_real_pictures(pictures):
  images = stack(pictures)
  wanted = main_colour(pictures)
  assert (rules.colour(images) == wanted).mean() >= 0.99
  assert (rules.colour(compressed(images)) == wanted).mean() >= 0.98


def test_place_rule_finds_the_main_object(pictures):
  boxes = np.stack([picture.boxes[0] for picture in pictures])
  middle = np.stack([boxes[:, [1, 3]].mean(1), boxes[:, [0, 2]].mean(1)], -1)
  images = stack(pictures)
  for shown in (images, compressed(images)):
    off = np.abs(rules.place(shown) - middle).max(-1)
    assert np.median(off) < 0.03 and (off < 0.08).mean() >= 0.98


def test_foreground_is_the_objects(pictures):
  wanted = np.stack([picture.segmentation > 0 for picture in pictures])
  found = rules.foreground(stack(pictures))
  assert (found & wanted).sum() / (found | wanted).sum() > 0.95


def test_rules_see_nothing_where_nothing_is():
  grey = np.full([2, 32, 32, 3], 128, np.uint8)
  assert (rules.colour(grey) == -1).all() and not rules.foreground(grey).any()
  assert np.isnan(rules.place(grey)).all()
  assert rules.place_histogram(grey).sum() == 0
  with pytest.raises(ValueError, match="float64"):
    rules.colour(grey.astype(float))


def test_place_histogram_counts_cells(pictures):
  images = stack(pictures)
  found = rules.place_histogram(images, 3)
  assert found.shape == (3, 3) and abs(found.sum() - 1) < 1e-9
  left = rules.place(images)[:, 0] < 1 / 3
  np.testing.assert_allclose(found[:, 0].sum(), left.mean())


def test_main_object_is_the_largest(pictures):
  for picture in pictures:
    areas = np.bincount(picture.segmentation.ravel(), minlength=25)[1:]
    assert areas.argmax() == picture.label
    assert areas[picture.label] * 2 > areas.sum()


def test_maps_and_boxes_agree(pictures):
  for picture in pictures[:50]:
    shown = picture.segmentation == picture.label + 1
    rows, columns = np.nonzero(shown)
    top, left, bottom, right = picture.boxes[0] * 64
    assert rows.min() >= top - 1 and rows.max() <= bottom
    assert columns.min() >= left - 1 and columns.max() <= right
    # Whatever stands on the ground is nearer than the ground behind it.
    y, x = int(rows.min()), int(np.median(columns))
    assert picture.depth[y, x] < picture.depth[max(y - 2, 0), x]
    assert picture.boxes.min() >= 0 and picture.boxes.max() <= 1
    assert picture.depth.min() > 2000


def test_near_objects_hide_far_ones_and_cast_shadows():
  solid = lambda y, size, colour: scene.Solid(
    shape=1,
    colour=colour,
    x=0.0,
    y=y,
    radius=size,
    height=2 * size,
    angle=0.0,
    gloss=0.5,
  )
  for bearing in (-0.4, 0.4):
    near, far = solid(-1.0, 0.8, 0), solid(0.6, 0.3, 3)
    picture = render.render(scene.Scene((near, far), bearing), 64)
    assert set(np.unique(picture.segmentation)) == {0, near.label + 1}
    ground = picture.image[picture.segmentation == 0].mean(-1)
    dark = (ground < 0.7 * np.median(ground)).mean()
    assert 0.02 < dark < 0.3
    # The light comes from the left.
    right = picture.image[20:50, 44:52].mean()
    assert right < 0.9 * picture.image[20:50, 10:18].mean()


def test_every_class_occurs_about_equally():
  labels = [scene.draw(0, i).label for i in range(NUM)]
  counts = np.bincount(labels, minlength=len(scene.CLASS_NAMES))
  assert counts.min() >= 3 and counts.max() <= 30


def test_workers_render_the_same_in_order():
  found = list(worker.examples(0, 32, 5, 40, workers=2))
  assert [item["index"] for item in found] == list(range(5, 45))
  for item in found[::13]:
    assert item.keys() == worker.example(0, 32, item["index"]).keys()
    assert item["image"] == worker.example(0, 32, item["index"])["image"]


def test_failing_worker_says_why():
  with pytest.raises(RuntimeError, match="side 8 must be in"):
    list(worker.examples(0, 8, 0, 40, workers=2))
