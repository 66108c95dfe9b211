"""The list: a quantised DCT image as (channel, position, value) triples.

Only non-zero coefficients are listed, sorted by the visit rank of the channel
and then by position (Nash et al. 2021, sec. 3.1): coarse to fine, so that any
prefix decodes to a coarse coloured image. `m` is the room of a list.
"""

import functools
import itertools

import flax
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from dctransformer import dct

# Zigzag indices at which a band begins; each band doubles the resolution.
BOUNDARIES = (0, 1, 4, 16, 64, 256, 1024)


@flax.struct.dataclass
class Elements:
  """Lists of one or several images.

  Attributes:
    channel: int32 [..., m], channel ids; zero past the end, like the next two.
    position: int32 [..., m], row * codec.cols + column: columns of the canvas,
      whatever the size of the image.
    value: int32 [..., m], quantised values, -V..V without 0.
    length: int32 [...], elements held, at most m.
    total: int32 [...], elements the image has; more than `length` means that
      the high-frequency tail was cut, and that the list has no stop.
  """

  channel: jax.Array
  position: jax.Array
  value: jax.Array
  length: jax.Array
  total: jax.Array


@functools.lru_cache(maxsize=16)
def visit_order(codec: dct.Codec) -> np.ndarray:
  """Channel ids in the order of the list, int32 [3B^2].

  Band by band; inside a band Y, Cr, Cb; inside a component by zigzag index.
  "luma_first": all bands of Y, then the bands of Cr and Cb.
  """
  num = codec.block**2
  y, cb, cr = np.split(np.arange(3 * num, dtype=np.int32), 3)
  passes = [(y, cr, cb)] if codec.order == "interleaved" else [(y,), (cr, cb)]
  return np.concatenate(
    [
      plane[low:high]
      for planes in passes
      for low, high in itertools.pairwise(BOUNDARIES)
      for plane in planes
    ]
  )


@functools.lru_cache(maxsize=16)
def visit_rank(codec: dct.Codec) -> np.ndarray:
  """Rank of every channel id in the visit order, int32 [3B^2]."""
  return np.argsort(visit_order(codec)).astype(np.int32)


@functools.lru_cache(maxsize=16)
def band(codec: dct.Codec) -> np.ndarray:
  """Band of every channel id, int32 [3B^2]; band 0 holds the DCs."""
  index = np.arange(codec.num_channels) % codec.block**2
  return np.searchsorted(BOUNDARIES, index, side="right").astype(np.int32) - 1


def to_elements(
  codec: dct.Codec, coefficients: dct.Array, max_elements: int
) -> Elements:
  """List the non-zero coefficients in visit order.

  Args:
    codec: order, canvas and range of values.
    coefficients: integers [..., r, c, 3B^2], at most the canvas; chroma only
      on cells with even row and column.
    max_elements: room m of the list; what does not fit is cut at the tail.

  Returns:
    `Elements` [..., m], values clipped to [-V, V].

  Raises:
    ValueError: the shape does not fit the codec.
  """
  rows, cols = _check_grid(codec, coefficients.shape)
  batch = coefficients.shape[:-3]
  flat = jnp.reshape(coefficients, (-1, *coefficients.shape[-3:]))
  single = functools.partial(_list_one, codec, rows, cols, max_elements)
  elements = jax.vmap(single)(flat)
  return jax.tree.map(lambda x: x.reshape(batch + x.shape[1:]), elements)


def to_coefficients(
  codec: dct.Codec, elements: Elements, length: dct.Array | None = None
) -> jax.Array:
  """Scatter a list, or its first `length` elements, into a DCT image.

  Args:
    codec: canvas and channels.
    elements: lists [..., m].
    length: int [...], how many elements to use; all that are held by default.

  Returns:
    int32 [..., rows, cols, 3B^2], the size of the canvas.
  """
  length = elements.length if length is None else length
  length = jnp.minimum(length, elements.length)
  room = elements.channel.shape[-1]
  size = codec.num_positions * codec.num_channels
  position = jnp.asarray(elements.position, jnp.int32)
  index = position * codec.num_channels + elements.channel
  index = jnp.where(jnp.arange(room) < length[..., None], index, size)
  batch = index.shape[:-1]

  def scatter(index, value):
    return jnp.zeros(size, jnp.int32).at[index].set(value, mode="drop")

  flat = jax.vmap(scatter)(
    index.reshape(-1, room), elements.value.reshape(-1, room)
  )
  shape = (*batch, codec.rows, codec.cols, codec.num_channels)
  return flat.reshape(shape)


def layout(codec: dct.Codec, rows: int, cols: int) -> tuple[np.ndarray, int]:
  """Where each rank begins when its cells are laid end to end.

  A luma channel has rows * cols cells, a chroma channel a quarter of them.

  Returns:
    Offsets int32 [3B^2] by rank, and the number of cells of the image.
  """
  luma = visit_order(codec) < codec.block**2
  cells = np.where(luma, rows * cols, rows * cols // 4)
  ends = np.cumsum(cells)
  return (ends - cells).astype(np.int32), int(ends[-1])


def _list_one(codec, rows, cols, room, coefficients):
  """Lists one image [r, c, 3B^2]."""
  order = visit_order(codec)
  luma = order < codec.block**2
  planes = rearrange(coefficients, "r c z -> z r c")
  pieces = []
  for low, high in _runs(luma):
    step = 1 if luma[low] else 2
    piece = planes[order[low:high], ::step, ::step]
    pieces.append(piece.reshape(-1))
  cells = jnp.concatenate(pieces)  # in visit order
  offsets, size = layout(codec, rows, cols)

  taken = cells != 0
  total = jnp.sum(taken, dtype=jnp.int32)
  slot = jnp.cumsum(taken, dtype=jnp.int32) - 1
  slot = jnp.where(taken, slot, room)
  index = jnp.full(room, size, jnp.int32)
  index = index.at[slot].set(jnp.arange(size, dtype=jnp.int32), mode="drop")
  held = jnp.arange(room) < total  # [m]

  rank = jnp.searchsorted(offsets, index, side="right") - 1
  cell = index - jnp.asarray(offsets)[rank]
  is_luma = jnp.asarray(luma)[rank]
  width = jnp.where(is_luma, cols, cols // 2)
  step = jnp.where(is_luma, 1, 2)
  position = step * (cell // width * codec.cols + cell % width)
  value = cells.at[index].get(mode="fill", fill_value=0)
  value = jnp.clip(value, -codec.max_value, codec.max_value)
  return Elements(
    channel=jnp.where(held, jnp.asarray(order)[rank], 0),
    position=jnp.where(held, position, 0),
    value=value.astype(jnp.int32),
    length=jnp.minimum(total, room),
    total=total,
  )


def _runs(flags):
  """Yields (low, high) of every run of equal flags."""
  edges = np.flatnonzero(np.diff(flags)) + 1
  return list(zip([0, *edges], [*edges, len(flags)]))


def _check_grid(codec, shape):
  if len(shape) < 3 or shape[-1] != codec.num_channels:
    raise ValueError(
      f"coefficients {list(shape)} must be [..., rows, cols,"
      f" {codec.num_channels}] for block {codec.block}"
    )
  rows, cols = shape[-3:-1]
  if rows % 2 or cols % 2 or rows > codec.rows or cols > codec.cols:
    raise ValueError(
      f"grid of {rows} x {cols} blocks must be even and at most"
      f" {codec.rows} x {codec.cols}, the canvas"
    )
  return rows, cols
