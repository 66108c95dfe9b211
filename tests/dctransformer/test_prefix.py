"""Prefixes: what each conditional task is given, and what it looks like."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from dctransformer import dct, pictures, prefix, sparse
from tests.dctransformer import tiny

_CODEC = dataclasses.replace(tiny.CODEC, max_value=128)
_ROOM = 600


def _elements(codec):
  images = tiny.make_images(2)
  coefficients = dct.to_coefficients(codec, images)
  return images, sparse.to_elements(codec, coefficients, _ROOM)


def _decode(codec, elements):
  return np.asarray(
    dct.to_image(codec, sparse.to_coefficients(codec, elements))
  )


def test_upsample_keeps_the_image_of_block_means():
  images, elements = _elements(_CODEC)
  given = prefix.take(_CODEC, elements, "upsample")
  assert (given.length < elements.length).all() and (given.length > 0).all()
  decoded = _decode(_CODEC, given)
  blocks = decoded.reshape(2, 4, 8, 4, 8, 3)
  assert (blocks == blocks[:, :, :1, :, :1]).all()  # flat within a block
  means = images.reshape(2, 4, 8, 4, 8, 3).mean(axis=(2, 4))
  grey = lambda x: x @ np.array([0.299, 0.587, 0.114])
  assert np.abs(grey(blocks[:, :, 0, :, 0]) - grey(means)).max() < 3


def test_colorize_keeps_all_luma_and_no_colour():
  codec = dataclasses.replace(_CODEC, order="luma_first")
  _, elements = _elements(codec)
  given = prefix.take(codec, elements, "colorize")
  decoded = _decode(codec, given).astype(int)
  assert np.ptp(decoded, axis=-1).max() == 0
  luma = lambda e: np.asarray(sparse.to_coefficients(codec, e))[..., :64]
  np.testing.assert_array_equal(luma(given), luma(elements))


def test_complete_keeps_the_first_elements():
  _, elements = _elements(_CODEC)
  given = prefix.take(_CODEC, elements, "complete", 0.3)
  np.testing.assert_array_equal(
    given.length, np.floor(np.asarray(elements.length) * 0.3)
  )
  n = int(given.length[0])
  np.testing.assert_array_equal(given.value[0, :n], elements.value[0, :n])
  assert not given.value[0, n:].any()


@pytest.mark.parametrize("order", ["interleaved", "luma_first"])
@pytest.mark.parametrize("kind", prefix.KINDS)
def test_what_is_drawn_begins_after_all_that_is_given(order, kind):
  codec = dataclasses.replace(_CODEC, order=order)
  first = prefix.first_rank(codec, kind)
  coarse = {"interleaved": 3, "luma_first": 1}[order]
  assert first == {"upsample": coarse, "colorize": 64, "complete": 0}[kind]
  if kind == "complete" or (kind, order) == ("colorize", "interleaved"):
    return
  _, elements = _elements(codec)
  given = prefix.take(codec, elements, kind)
  rank = sparse.visit_rank(codec)[elements.channel]
  held = np.arange(_ROOM) < np.asarray(elements.length)[:, None]
  np.testing.assert_array_equal(given.length, (held & (rank < first)).sum(1))


@pytest.mark.parametrize(
  ("kind", "fraction", "message"),
  [
    ("colorize", 0, "luma_first"),
    ("complete", 1.0, "fraction"),
    ("paint", 0, "one of"),
  ],
)
def test_wrong_kinds_are_refused(kind, fraction, message):
  _, elements = _elements(_CODEC)
  with pytest.raises(ValueError, match=message):
    prefix.take(_CODEC, elements, kind, fraction)


def test_heat_maps_count_the_elements_of_each_block():
  _, elements = _elements(_CODEC)
  counts = pictures.counts(_CODEC, elements)
  dense = np.asarray(sparse.to_coefficients(_CODEC, elements))
  np.testing.assert_array_equal(counts, (dense != 0).sum(axis=-1))
  maps = pictures.heat_maps(_CODEC, elements)
  assert maps.shape == (2, 32, 32, 3) and maps.dtype == np.uint8


def test_progressive_decodes_end_at_the_image():
  images, elements = _elements(_CODEC)
  lengths = pictures.doubling(16, int(jnp.max(elements.length)))
  stages = pictures.progressive(_CODEC, elements, lengths)
  assert stages.shape == (2, len(lengths), 32, 32, 3)
  np.testing.assert_array_equal(stages[:, -1], _decode(_CODEC, elements))
  errors = np.abs(stages.astype(int) - images[:, None]).mean(axis=(0, 2, 3, 4))
  assert (np.diff(errors) < 0).all()
