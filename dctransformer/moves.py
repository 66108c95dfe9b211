"""Legal moves: which element may follow which in a sorted list.

A list is sorted by (visit rank of the channel, position), so the rank must
not decrease; within a channel the position must grow; chroma blocks sit on
even rows and columns; everything lies inside the image's true size. The stop
may come at any time.

Shapes: any leading dimensions `...`, c DCT channels, h w canvas in blocks.
"""

import jax.numpy as jnp
import numpy as np

from dctransformer import sparse


def legal_channels(codec, channel, position, blocks, first_rank=0):
  """Say which channels may follow an element.

  Args:
    codec: `dct.Codec`.
    channel: int32 [...], the channel before; codec.start at the beginning.
    position: int32 [...], its position.
    blocks: int32 [..., 2], true rows and columns of the image in blocks.
    first_rank: int32 [...], the first visit rank that may follow: what is
      given says all of the ranks below, zeros too.

  Returns:
    bool [..., c + 1]; the last, the stop, is always True.
  """
  ids = np.arange(codec.num_channels)
  rank = np.append(sparse.visit_rank(codec), [codec.num_channels, -1])
  before = jnp.asarray(rank)[channel][..., None]
  later = rank[: codec.num_channels] > before
  free = rank[: codec.num_channels] >= jnp.asarray(first_rank)[..., None]
  room = position < _last_cell(codec, channel, blocks)
  again = (channel[..., None] == ids) & room[..., None]
  stop = jnp.ones((*channel.shape, 1), bool)
  return jnp.concatenate([(later | again) & free, stop], axis=-1)


def legal_positions(codec, channel, before, position, blocks):
  """Say where an element of a given channel may lie.

  Args:
    codec: `dct.Codec`.
    channel: int32 [...], the element's own channel (not the stop).
    before: int32 [...], the channel before; codec.start at the beginning.
    position: int32 [...], the position before.
    blocks: int32 [..., 2], true rows and columns of the image in blocks.

  Returns:
    bool [..., h w].
  """
  cell = np.arange(codec.num_positions)
  row, col = cell // codec.cols, cell % codec.cols
  inside = (row < blocks[..., :1]) & (col < blocks[..., 1:])
  even = (row % 2 == 0) & (col % 2 == 0)
  luma = _is_luma(codec, channel)[..., None]
  follows = (channel != before)[..., None] | (cell > position[..., None])
  return inside & (luma | even) & follows


def _last_cell(codec, channel, blocks):
  """Return the last legal position of a channel, int32 [...]."""
  step = jnp.where(_is_luma(codec, channel), 1, 2)
  return (blocks[..., 0] - step) * codec.cols + blocks[..., 1] - step


def _is_luma(codec, channel):
  return channel < codec.block**2
