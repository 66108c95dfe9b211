"""The visit order, and the list as an exact inverse of the DCT image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dctransformer import dct, sparse

# Compiled once, called with many contents.
_CODEC = dct.Codec(8, 75, 4, 6, max_value=9)
_ROOM = 64
_elements = jax.jit(sparse.to_elements, static_argnums=(0, 2))
_list = lambda image: _elements(_CODEC, image, _ROOM)
_scatter = jax.jit(lambda e: sparse.to_coefficients(_CODEC, e))
_prefix = jax.jit(lambda e, n: sparse.to_coefficients(_CODEC, e, n))


def _cells(codec):
  """Every legal (channel, row, column) in visit order."""
  return [
    (int(channel), i, j)
    for channel in sparse.visit_order(codec)
    for i in range(0, codec.rows, 1 if channel < codec.block**2 else 2)
    for j in range(0, codec.cols, 1 if channel < codec.block**2 else 2)
  ]


def _image(codec, triples):
  image = np.zeros((codec.rows, codec.cols, codec.num_channels), np.int32)
  for (channel, i, j), value in triples:
    image[i, j, channel] = value
  return image


_CELLS = _cells(_CODEC)


@st.composite
def _triples(draw):
  """Legal cells in visit order with values, as many as fit."""
  places = draw(st.sets(st.integers(0, len(_CELLS) - 1), max_size=_ROOM))
  value = st.integers(-9, 9).filter(bool)
  return [(_CELLS[place], draw(value)) for place in sorted(places)]


def test_visit_order_begins_as_in_the_paper():
  codec = dct.Codec(8, 75, 2, 2)
  assert list(sparse.visit_order(codec)[:6]) == [0, 128, 64, 1, 2, 3]
  assert list(sparse.visit_order(codec)[6:9]) == [129, 130, 131]


@pytest.mark.parametrize("block", dct.BLOCKS)
@pytest.mark.parametrize("order", dct.ORDERS)
def test_visit_order_sorts_by_band_component_and_zigzag(block, order):
  codec = dct.Codec(block, 75, 2, 2, order=order)
  boundaries = [0, 1, 4, 16, 64, 256, 1024]

  def place(channel):
    component, index = divmod(int(channel), block**2)
    band = max(k for k, low in enumerate(boundaries) if index >= low)
    turn = {0: 0, 2: 1, 1: 2}[component]  # Y, Cr, Cb
    late = order == "luma_first" and component > 0
    return late, band, turn, index

  visited = sparse.visit_order(codec)
  assert sorted(visited, key=place) == list(visited)
  assert sorted(visited) == list(range(3 * block**2))
  rank = sparse.visit_rank(codec)
  np.testing.assert_array_equal(rank[visited], np.arange(3 * block**2))
  bands = [place(channel)[1] for channel in range(3 * block**2)]
  np.testing.assert_array_equal(sparse.band(codec), bands)


def test_full_image_has_the_elements_of_band_0_that_the_paper_counts():
  codec = dct.Codec(8, 75, 26, 22)
  first = sparse.visit_order(codec)[:3]
  full = np.zeros((26, 22, 192), np.int32)
  full[..., 0] = 1
  full[::2, ::2, [64, 128]] = 1
  elements = _elements(codec, full, 900)
  counts = [int(np.sum(elements.channel[: 572 + 286] == c)) for c in first]
  assert counts == [572, 143, 143] and int(elements.total) == 858


@settings(max_examples=60, deadline=None)
@given(_triples())
def test_list_and_tensor_invert_each_other(triples):
  image = _image(_CODEC, triples)
  elements = _list(image)
  assert int(elements.length) == int(elements.total) == len(triples)
  for slot, ((channel, i, j), value) in enumerate(triples):
    assert int(elements.channel[slot]) == channel
    assert int(elements.position[slot]) == i * _CODEC.cols + j
    assert int(elements.value[slot]) == value
  for name in ("channel", "position", "value"):
    assert not getattr(elements, name)[len(triples) :].any()
  np.testing.assert_array_equal(_scatter(elements), image)
  again = _list(_scatter(elements))
  jax.tree.map(np.testing.assert_array_equal, again, elements)


@settings(max_examples=20, deadline=None)
@given(_triples(), st.integers(0, _ROOM))
def test_prefix_holds_the_first_elements_only(triples, length):
  found = _prefix(_list(_image(_CODEC, triples)), length)
  np.testing.assert_array_equal(found, _image(_CODEC, triples[:length]))


def test_a_list_too_long_loses_its_tail_and_says_so():
  triples = [(cell, 1 + k % 9) for k, cell in enumerate(_CELLS[:100])]
  elements = _list(_image(_CODEC, triples))
  assert (int(elements.length), int(elements.total)) == (_ROOM, 100)
  kept = _image(_CODEC, triples[:_ROOM])
  np.testing.assert_array_equal(_scatter(elements), kept)


def test_values_are_clipped_and_never_vanish():
  triples = [(_CELLS[0], 500), (_CELLS[1], -500), (_CELLS[2], 9)]
  assert list(_list(_image(_CODEC, triples)).value[:4]) == [9, -9, 9, 0]


def test_positions_count_columns_of_the_canvas():
  small = np.zeros((2, 4, 192), np.int32)
  small[1, 3, 0] = 5
  elements = _elements(_CODEC, small, 3)
  assert int(elements.position[0]) == 1 * 6 + 3
  whole = _scatter(elements)
  np.testing.assert_array_equal(whole[:2, :4], small)
  assert int(jnp.abs(whole).sum()) == 5


def test_batches_are_lists_of_single_images():
  generator = np.random.default_rng(0)
  sparse_values = generator.integers(-2, 3, (2, 3, 4, 6, 192))
  sparse_values *= generator.random(sparse_values.shape) < 0.02
  sparse_values[..., 1::2, :, 64:] = 0
  sparse_values[..., 1::2, 64:] = 0
  batched = _list(sparse_values)
  assert batched.channel.shape == (2, 3, _ROOM)
  assert batched.total.shape == (2, 3)
  single = _list(sparse_values[1, 2])
  picked = jax.tree.map(lambda x: x[1, 2], batched)
  jax.tree.map(np.testing.assert_array_equal, picked, single)
  lengths = np.array([[3, 0, 5], [1, 9, 2]])
  partial = _prefix(batched, lengths)
  np.testing.assert_array_equal(
    partial[1, 1], _prefix(jax.tree.map(lambda x: x[1, 1], batched), 9)
  )
  assert np.count_nonzero(partial) == lengths.sum()


def test_int16_lists_scatter_to_the_far_corner_of_a_large_canvas():
  codec = dct.Codec(8, 75, 128, 128)
  elements = sparse.Elements(
    channel=np.array([191], np.int16),
    position=np.array([127 * 128 + 126], np.int16),
    value=np.array([-3], np.int16),
    length=np.int32(1),
    total=np.int32(1),
  )
  image = np.asarray(sparse.to_coefficients(codec, elements))
  assert image[127, 126, 191] == -3 and np.count_nonzero(image) == 1


@jax.jit
def _band_0(image):
  """Decodes band 0 of an image through its list."""
  codec = dct.Codec(8, 95, 4, 4)
  coefficients = dct.to_coefficients(codec, image)
  elements = sparse.to_elements(codec, coefficients, codec.max_total)
  held = jnp.arange(codec.max_total) < elements.length
  length = jnp.sum(
    held & (jnp.asarray(sparse.band(codec))[elements.channel] == 0)
  )
  return dct.to_image(codec, sparse.to_coefficients(codec, elements, length))


def test_band_0_decodes_to_the_image_made_coarse():
  generator = np.random.default_rng(0)
  image = generator.integers(60, 200, (32, 32, 3), dtype=np.uint8)
  coarse = np.asarray(_band_0(image)).astype(np.float64)
  # Luma: one brightness for each 8 x 8 pixels; chroma: 16 x 16.
  for component, side in ((0, 8), (1, 16), (2, 16)):
    plane = image @ dct.COLOR[component]
    means = plane.reshape(32 // side, side, 32 // side, side).mean((1, 3))
    expected = means.repeat(side, 0).repeat(side, 1)
    assert np.abs(coarse @ dct.COLOR[component] - expected).max() < 2


@pytest.mark.parametrize(
  ("shape", "message"),
  [
    ((4, 4, 64), r"must be \[..., rows, cols, 192\]"),
    ((3, 4, 192), "grid of 3 x 4 blocks must be even"),
    ((6, 4, 192), "at most 4 x 6"),
  ],
)
def test_a_wrong_grid_says_what_is_wrong(shape, message):
  with pytest.raises(ValueError, match=message):
    sparse.to_elements(_CODEC, np.zeros(shape, np.int32), 8)
