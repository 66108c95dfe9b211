"""The demo's figures: real pictures pass, and each bar can be missed."""

import numpy as np
import pytest

from data.scenes import render, scene
from launch import demo_figures

_CLASSES = len(scene.COLOURS) * len(scene.SHAPES)


@pytest.fixture(scope="module")
def real():
  """Return (train, held out): 120 and 120 scenes at side 32."""
  drawn = [render.render(scene.draw(3, i), 32) for i in range(240)]
  images = np.stack([x.image for x in drawn])
  labels = np.array([x.label for x in drawn])
  make = lambda part: demo_figures.Pictures(images[part], labels[part])
  return make(slice(0, 120)), make(slice(120, 240))


def _figures(samples, real):
  return {
    x.name.split(" (")[0]: x for x in demo_figures.of_samples(samples, *real)
  }


def test_real_pictures_pass(real):
  figures = _figures(real[1], real)
  assert all(figure.passed for figure in figures.values())
  colour = figures["labelled colour right"]
  assert colour.value > 0.95 and colour.blind < 0.35


def test_wrong_labels_miss_the_colour(real):
  images, labels = real[1].images, (real[1].labels + 8) % _CLASSES
  figures = _figures(demo_figures.Pictures(images, labels), real)
  assert not figures["labelled colour right"].passed


def test_one_picture_a_class_misses_the_variety(real):
  labels = real[1].labels
  first = [np.flatnonzero(labels == label)[0] for label in labels]
  samples = demo_figures.Pictures(real[1].images[first], labels)
  figures = _figures(samples, real)
  assert not figures["distance within a class"].passed


def test_copies_of_training_pictures_are_found(real):
  figures = _figures(real[0], real)
  assert not figures["closest to a training picture"].passed


def test_one_place_misses_the_histogram(real):
  images = np.repeat(real[1].images[:1], 60, axis=0)
  labels = np.repeat(real[1].labels[:1], 60)
  figures = _figures(demo_figures.Pictures(images, labels), real)
  assert not figures["place of the main object"].passed


def test_nearest_is_the_least_distance():
  rng = np.random.default_rng(0)
  a = rng.integers(0, 256, (3, 4, 4, 3)).astype(np.uint8)
  b = rng.integers(0, 256, (5, 4, 4, 3)).astype(np.uint8)
  difference = a[:, None].astype(float) - b[None]
  expected = np.sqrt((difference**2).mean(axis=(2, 3, 4))).min(axis=1)
  np.testing.assert_allclose(demo_figures.nearest(a, b), expected, rtol=1e-4)


def test_lists_are_measured_by_their_bars():
  good = {
    "length": np.full(4, 100),
    "stopped": np.ones(4, bool),
    "illegal_channel": np.full(4, 0.01),
    "illegal_position": np.full(4, 0.01),
  }
  assert all(x.passed for x in demo_figures.of_lists(good, 95.0))
  bad = {"length": good["length"] * 2, "stopped": ~good["stopped"]}
  bad |= {name: good[name] * 3 for name in good if name.startswith("illegal")}
  assert not any(x.passed for x in demo_figures.of_lists(bad, 95.0))
  table = demo_figures.table(demo_figures.of_lists(bad, 95.0))
  assert table.count("MISSED") == 4


def test_every_figure_stands_beside_one_of_a_blind_model():
  figures = [
    demo_figures.Figure("colour", 0.9, low=0.8, blind=0.2),
    demo_figures.Figure("place", 0.3, high=0.2),
  ]
  rows = demo_figures.rows(figures)
  assert [row[demo_figures.DEALT] for row in rows] == ["0.200", "the same"]
  assert [row["verdict"] for row in rows] == ["", "MISSED"]
  lines = demo_figures.table(figures).splitlines()
  assert lines[0].split() == ["value", "bar", "labels", "dealt", "out"]
  assert lines[2].split() == [
    "place",
    "0.300",
    "<=",
    "0.2",
    "the",
    "same",
    "MISSED",
  ]
  assert lines[-1] == "1 of 2 figures miss their bar"
  # Where no figure depends on labels there is no such column.
  assert demo_figures.DEALT not in demo_figures.rows(figures[1:])[0]
