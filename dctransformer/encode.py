"""Host-side preprocessing in TensorFlow: an image to rows of its DCT list.

Each factory returns `encode(record, seed) -> row`, a function for
`data.pipeline`. The lists are those of `dct.to_coefficients` and
`sparse.to_elements`, computed faster: colour, chroma subsampling and the
horizontal transform are one small matrix product per plane, the vertical
transform is a second one, and a single `tf.where` finds the list, because the
cells are laid out in visit order.

A row (leading axis r: rows of this image):
  channel, position, value: int16 [r, m], zero past the end.
  length, total, clipped: int32 [r], elements held, elements of the image, and
    how many of these were clipped to the range of values.
  chunk: int32 [r], which chunk to look at.
  size: int32 [r, 2], height and width in pixels before padding.
  blocks: int32 [r, 2], rows and columns in luma blocks, even.
  label, example_id: int32 [r].
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from data import images
from dctransformer import chunks, dct, frame, sparse

Record = dict[str, tf.Tensor]
Encode = Callable[[Record, tf.Tensor], Record]


def make_train_encode(
  codec: dct.Codec,
  plan: chunks.Plan,
  *,
  resize: int | None,
  fit: str = "crop",
  flip: bool = False,
  chunks_per_image: int = 1,
) -> Encode:
  """Build the training function: a list and randomly drawn chunks of it.

  Args:
    codec: canvas, tables and order.
    plan: chunks; lists have its room.
    resize: long side in pixels, None to keep the size.
    fit: how sides become multiples of 2B, "crop" or "pad".
    flip: mirror every second image, at random.
    chunks_per_image: rows per image, chunks drawn independently.

  Raises:
    ValueError: the image would not fit the canvas, or an unknown fit.
  """
  if chunks_per_image < 1:
    raise ValueError(f"chunks_per_image {chunks_per_image} must be at least 1")
  listed = _Listed(codec, resize, fit, plan.max_elements)
  table = tf.constant(chunks.cdf_table(plan))

  def encode(record, seed):
    u = tf.random.stateless_uniform([chunks_per_image + 1], seed)
    image = record["image"]
    if flip:
      image = tf.cond(u[-1] < 0.5, lambda: image[:, ::-1], lambda: image)
    row = listed(image)
    cdf = tf.gather(table, _num_chunks(plan, row))
    chunk = tf.reduce_sum(tf.cast(u[:-1, None] >= cdf, tf.int32), axis=1)
    return _rows(record, row, chunk)

  return encode


def make_eval_encode(
  codec: dct.Codec,
  plan: chunks.Plan,
  *,
  resize: int | None,
  fit: str = "crop",
) -> Encode:
  """Build the evaluation function: every chunk of the image exactly once.

  Arguments and errors as in `make_train_encode`; r is the number of chunks.
  """
  listed = _Listed(codec, resize, fit, plan.max_elements)

  def encode(record, seed):
    del seed
    row = listed(record["image"])
    return _rows(record, row, tf.range(_num_chunks(plan, row)))

  return encode


def make_list_encode(
  codec: dct.Codec,
  *,
  resize: int | None,
  fit: str = "crop",
  max_elements: int | None = None,
) -> Encode:
  """Build the measuring function: one row with the whole list.

  Arguments and errors as in `make_train_encode`; the list has room for
  max_elements, by default for every coefficient of the canvas.
  """
  listed = _Listed(codec, resize, fit, max_elements or codec.max_total)

  def encode(record, seed):
    del seed
    return _rows(record, listed(record["image"]), tf.zeros([1], tf.int32))

  return encode


class _Listed:
  """Frames an image, uint8 [h, w, 3], and lists it.

  Pictures that fill the canvas as they are take a path of their own, where all
  shapes are known.
  """

  def __init__(self, codec, resize, fit, room):
    self._block = codec.block
    self._canvas = (codec.rows * codec.block, codec.cols * codec.block)
    self._may_fill = resize in (None, max(self._canvas))
    self._prepare = _Prepare(codec, resize, fit)
    self._lists = _Lists(codec, room)

  def __call__(self, image):
    filled = (*self._canvas, 3)
    framed = lambda: self._described(*self._prepare(image))
    if not (self._may_fill and image.shape.is_compatible_with(filled)):
      return framed()
    # Not ensure_shape: graph optimisation then believes it of every picture.
    return tf.cond(
      tf.reduce_all(tf.equal(tf.shape(image), filled)),
      lambda: self._described(
        tf.reshape(image, filled), tf.constant(self._canvas)
      ),
      framed,
    )

  def _described(self, image, size):
    blocks = tf.shape(image)[:2] // self._block
    return {**self._lists(image), "size": size, "blocks": blocks}


class _Prepare:
  """Frames an image, uint8 [h, w, 3]: whole blocks, and the true size."""

  def __init__(self, codec, resize, fit):
    self._frame = frame.make(codec, resize, fit)
    self._canvas = (codec.rows * codec.block, codec.cols * codec.block)

  def __call__(self, image):
    size = tf.shape(image)[:2]
    ready = tf.reduce_all(tf.equal(size % self._frame.unit, 0))
    ready &= tf.reduce_all(size <= self._canvas) & tf.reduce_all(size > 0)
    if self._frame.resize is not None:
      ready &= tf.equal(tf.reduce_max(size), self._frame.resize)
    # The whole of the rest costs a tenth of the list, doing nothing.
    image, size = tf.cond(
      ready, lambda: (image, size), lambda: self._framed(image)
    )
    return tf.ensure_shape(image, [None, None, 3]), size

  def _framed(self, image):
    if self._frame.resize is not None:
      image = images.resize(image, *self._resized(tf.shape(image)[:2]))
    unit = self._frame.unit
    if self._frame.fit == "crop":
      kept = tf.maximum(tf.shape(image)[:2] // unit, 1) * unit
      image = images.center_crop(image, kept[0], kept[1])
    size = tf.shape(image)[:2]
    image = images.edge_pad_to_multiple(image, unit)
    fits = tf.reduce_all(tf.shape(image)[:2] <= self._canvas)
    tf.debugging.assert_equal(
      fits, True, "image exceeds the canvas: set resize"
    )
    return image, size

  def _resized(self, size):
    """`frame.Frame.resized` for tensors."""
    long = tf.reduce_max(size)
    sides = (2 * size * self._frame.resize + long) // (2 * long)
    return tf.unstack(tf.maximum(sides, 1))


class _Lists:
  """Lists one framed image, uint8 [h, w, 3]."""

  def __init__(self, codec, room):
    b = codec.block
    self._codec = codec
    self._room = room
    basis = dct.basis(b)
    halves = np.repeat(np.eye(b), 2, axis=1) / 2  # the mean of two pixels
    coarse = basis @ halves  # [B, 2B]
    # Rows of pixels, three colours each, to horizontal frequencies; those of
    # chroma are sums of two rows.
    luma = np.einsum("vx,i->xiv", basis, dct.COLOR[0])
    chroma = np.einsum("vx,pi->xipv", coarse / 2, dct.COLOR[1:])
    self._luma_across = _constant(luma.reshape(3 * b, b))
    self._chroma_across = _constant(chroma.reshape(6 * b, 2 * b))
    self._down = _constant(basis)
    luma_table, chroma_table = codec.tables()
    self._luma_scale = _constant(1.0 / luma_table)
    self._chroma_scale = _constant(1.0 / chroma_table)
    # The level shift reaches the luma DC alone.
    shift = np.full((b, b), dct.TIE)
    shift[0, 0] += 128 * b / luma_table[0, 0]
    self._luma_shift = _constant(shift)
    self._chroma_shift = _constant(np.full((b, b), dct.TIE))
    self._pieces = _pieces(codec)
    self._places = tf.constant(_places(codec))

  def __call__(self, image):
    cells = self._layout(*self._transform(image))
    index = tf.where(cells)  # [total, 1]
    total = tf.size(index)
    limit = self._codec.max_value
    value = tf.gather_nd(cells, index)
    clipped = tf.clip_by_value(value, -limit, limit)
    changed = tf.math.count_nonzero(value - clipped, dtype=tf.int32)
    index = index[: self._room]
    length = tf.size(index)

    room = self._room
    pad = [[0, room - length]]
    places = tf.ensure_shape(
      tf.pad(tf.gather_nd(self._places, index), pad), [room]
    )
    channel, position = tf.unstack(tf.bitcast(places, tf.int16), axis=1)
    value = tf.pad(clipped[:room], pad)
    return {
      "channel": channel,
      "position": position,
      "value": tf.ensure_shape(value, [room]),
      "length": length,
      "total": total,
      "clipped": changed,
    }

  def _transform(self, image):
    """Quantised luma and chroma, int16 [r, u, c, v] and [r, u, c, p, v]."""
    b = self._codec.block
    h, w = tf.unstack(tf.shape(image)[:2])
    pixels = tf.cast(image, tf.float32)
    luma = tf.matmul(tf.reshape(pixels, [-1, 3 * b]), self._luma_across)
    luma = tf.reshape(luma, [h // b, b, w])  # [r, y, (c v)]
    luma = tf.matmul(self._down, luma)  # [r, u, (c v)]
    luma = _quantise(luma, self._luma_scale, self._luma_shift)
    above, below = tf.split(tf.reshape(pixels, [h // 2, 6 * w]), 2, axis=1)
    pairs = above + below
    chroma = tf.matmul(tf.reshape(pairs, [-1, 6 * b]), self._chroma_across)
    chroma = tf.reshape(chroma, [h // (2 * b), b, w])  # [r, y, (c p v)]
    chroma = tf.matmul(self._down, chroma)  # [r, u, (c p v)]
    chroma = _quantise(chroma, self._chroma_scale, self._chroma_shift)
    return (
      tf.reshape(luma, [h // b, b, w // b, b]),
      tf.reshape(chroma, [h // (2 * b), b, w // (2 * b), 2 * b]),
    )

  def _layout(self, luma, chroma):
    """All cells of the canvas in visit order, int16 [max_total]."""
    planes = []
    for values, step in ((luma, 1), (chroma, 2)):
      rows, cols = self._codec.rows // step, self._codec.cols // step
      values = tf.transpose(values, [1, 3, 0, 2])  # [u, v, r, c]
      shape = tf.shape(values)
      pad = [[0, 0], [0, 0], [0, rows - shape[2]], [0, cols - shape[3]]]
      planes.append(tf.reshape(tf.pad(values, pad), [-1, rows * cols]))
    return tf.concat(
      [
        tf.reshape(tf.gather(planes[plane], rows), [-1])
        for plane, rows in self._pieces
      ],
      axis=0,
    )


def _pieces(codec):
  """Runs of the visit order: (0 luma | 1 chroma, rows of its plane)."""
  b = codec.block
  order = sparse.visit_order(codec)
  plane, index = np.divmod(order, b**2)
  u, v = np.divmod(dct.zigzag(b)[index], b)
  row = np.where(plane == 0, u * b + v, (2 * u + plane - 1) * b + v)
  edges = np.flatnonzero(np.diff(plane > 0)) + 1
  return [
    (int(kinds[0] > 0), rows.astype(np.int32))
    for kinds, rows in zip(np.split(plane, edges), np.split(row, edges))
  ]


def _places(codec):
  """Channel and position of cells in visit order, two int16 in an int32.

  One gather of these [max_total] is faster than one of pairs.
  """
  grid = np.arange(codec.num_positions, dtype=np.int16)
  grid = grid.reshape(codec.rows, codec.cols)
  grids = [grid.reshape(-1), grid[::2, ::2].reshape(-1)]
  order = sparse.visit_order(codec)
  kinds = (order >= codec.block**2).astype(int)
  channel = np.repeat(
    order.astype(np.int16), [grids[kind].size for kind in kinds]
  )
  position = np.concatenate([grids[kind] for kind in kinds])
  return np.stack([channel, position], axis=1).view(np.int32)[:, 0]


def _quantise(values, scale, shift):
  """values [r, u, (c v)]; scale and shift [u, v]."""
  repeats = [1, tf.shape(values)[2] // scale.shape[1]]
  scaled = values * tf.tile(scale, repeats) - tf.tile(shift, repeats)
  return tf.cast(tf.round(scaled), tf.int16)


def _constant(matrix):
  return tf.constant(matrix.astype(np.float32))


def _num_chunks(plan, row):
  """`chunks.num_chunks` for tensors."""
  slots = row["length"] + tf.cast(row["total"] == row["length"], tf.int32)
  count = (slots + plan.chunk_len - 1) // plan.chunk_len
  return tf.minimum(count, plan.max_chunks)


def _rows(record, row, chunk):
  """Repeats the image's row for every chunk [r]."""
  row = {
    **row,
    "label": tf.cast(record["label"], tf.int32),
    "example_id": tf.cast(record["example_id"], tf.int32),
  }
  repeats = tf.size(chunk)
  rows = {}
  for name, leaf in row.items():
    rows[name] = leaf[None]
    if chunk.shape != [1]:
      rows[name] = tf.repeat(leaf[None], repeats, axis=0)
  return {**rows, "chunk": chunk}
