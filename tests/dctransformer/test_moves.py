"""Legal moves: exactly those that keep a list sorted and inside the image."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from dctransformer import dct, moves, sparse


@pytest.mark.parametrize("order", ["interleaved", "luma_first"])
@pytest.mark.parametrize("blocks", [(4, 4), (2, 4)])
def test_legal_moves_are_those_of_all_later_cells(order, blocks):
  codec = dct.Codec(8, 50, rows=4, cols=4, order=order, max_value=8)
  rank = sparse.visit_rank(codec)
  cells = [
    (c, row * codec.cols + col)
    for c in range(codec.num_channels)
    for row, col in itertools.product(range(blocks[0]), range(blocks[1]))
    if c < 64 or (row % 2 == 0 and col % 2 == 0)
  ]
  cells.sort(key=lambda cell: (rank[cell[0]], cell[1]))
  size = jnp.array(blocks)
  for index in [*range(0, 40), len(cells) // 2, len(cells) - 1]:
    channel, position = cells[index]
    legal = moves.legal_channels(
      codec, jnp.array(channel), jnp.array(position), size
    )
    expected = {c for c, _ in cells[index + 1 :]} | {codec.stop}
    assert set(np.flatnonzero(legal).tolist()) == expected
    for c in list(expected - {codec.stop})[:3]:
      legal = moves.legal_positions(
        codec, jnp.array(c), jnp.array(channel), jnp.array(position), size
      )
      later = {p for other, p in cells[index + 1 :] if other == c}
      assert set(np.flatnonzero(legal).tolist()) == later


def test_nothing_of_a_rank_that_is_given_may_follow():
  codec = dct.Codec(8, 50, rows=4, cols=4, max_value=8)
  rank = sparse.visit_rank(codec)
  before = jnp.array([codec.start, 0, 0])
  cell, size = jnp.array([0, 3, 3]), jnp.full((3, 2), 4)
  first = jnp.array([3, 1, 0])
  legal = moves.legal_channels(codec, before, cell, size, first)
  for row, lowest in zip(legal, [3, 1, 0]):
    assert row[codec.stop]
    np.testing.assert_array_equal(row[: codec.num_channels], rank >= lowest)


def test_everything_may_come_first():
  codec = dct.Codec(8, 50, rows=2, cols=2, max_value=8)
  start, zero = jnp.array(codec.start), jnp.array(0)
  legal = moves.legal_channels(codec, start, zero, jnp.array([2, 2]))
  assert legal.all()
  legal = moves.legal_positions(codec, zero, start, zero, jnp.array([2, 2]))
  assert legal.all()  # position 0 too
