"""Host-side preprocessing without TensorFlow: the rows of `encode`, in NumPy.

The factories serve `data.arrays` (one record at a time, any size); their
`encode(record, seed)` gives the rows that `dctransformer.encode` documents,
with the same integers (of resized pictures, up to the rounding of the resize)
but another stream of random numbers.
`encode_arrays` lists a whole stack of equal-sized images through the jitted
definition.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from einops import rearrange, reduce
from PIL import Image

from dctransformer import chunks, dct, frame, sparse

Row = dict[str, np.ndarray]
Encode = Callable[[dict[str, Any], np.ndarray], Row]


def make_train_encode(
  codec: dct.Codec,
  plan: chunks.Plan,
  *,
  resize: int | None,
  fit: str = "crop",
  flip: bool = False,
  chunks_per_image: int = 1,
) -> Encode:
  """Build the training function; see `encode.make_train_encode`."""
  if chunks_per_image < 1:
    raise ValueError(f"chunks_per_image {chunks_per_image} must be at least 1")
  framing = frame.make(codec, resize, fit)

  def encode(record, seed):
    generator = np.random.Generator(
      np.random.Philox(np.asarray(seed, np.uint32))
    )
    u = generator.random(chunks_per_image + 1, dtype=np.float32)
    image = record["image"]
    if flip and u[-1] < 0.5:
      image = image[:, ::-1]
    row = _whole(codec, plan.max_elements, framing, {**record, "image": image})
    count = chunks.num_chunks(plan, row["length"], row["total"])
    chunk = chunks.draw(plan, u[:-1], np.repeat(count, chunks_per_image))
    return _with_chunks(row, chunk)

  return encode


def make_eval_encode(
  codec: dct.Codec,
  plan: chunks.Plan,
  *,
  resize: int | None,
  fit: str = "crop",
) -> Encode:
  """Build the evaluation function; see `encode.make_eval_encode`."""
  framing = frame.make(codec, resize, fit)

  def encode(record, seed):
    del seed
    row = _whole(codec, plan.max_elements, framing, record)
    count = chunks.num_chunks(plan, row["length"], row["total"])
    return _with_chunks(row, np.arange(count[0], dtype=np.int32))

  return encode


def make_list_encode(
  codec: dct.Codec,
  *,
  resize: int | None,
  fit: str = "crop",
  max_elements: int | None = None,
) -> Encode:
  """Build the measuring function; see `encode.make_list_encode`."""
  framing = frame.make(codec, resize, fit)
  room = max_elements or codec.max_total

  def encode(record, seed):
    del seed
    return _whole(codec, room, framing, record)

  return encode


def encode_arrays(
  codec: dct.Codec,
  images: np.ndarray,
  labels: np.ndarray | None = None,
  *,
  max_elements: int,
  batch_size: int = 256,
) -> Row:
  """List images that are whole blocks already, one row each, chunk 0.

  Args:
    codec: canvas, tables and order.
    images: uint8 [n, h, w, 3], h and w multiples of 2B.
    labels: int [n]; zeros if absent.
    max_elements: room m of the lists.
    batch_size: images transformed at a time; the last batch is padded.

  Returns:
    The row that `dctransformer.encode` documents, r = n; `example_id` counts.
  """
  num = len(images)
  if labels is None:
    labels = np.zeros(num, np.int32)
  batches = []
  for i in range(0, num, batch_size):
    batch = images[i : i + batch_size]
    missing = min(batch_size, num) - len(batch)
    batch = np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0)))
    batches.append(jax.device_get(_list_batch(codec, max_elements, batch)))
  row = {
    name: np.concatenate([batch[name] for batch in batches])[:num]
    for name in batches[0]
  }
  size = np.array(images.shape[1:3], np.int32)
  return {
    **row,
    "chunk": np.zeros(num, np.int32),
    "size": np.tile(size, (num, 1)),
    "blocks": np.tile(size // codec.block, (num, 1)),
    "label": np.asarray(labels, np.int32),
    "example_id": np.arange(num, dtype=np.int32),
  }


def apply_frame(framing: frame.Frame, image: np.ndarray):
  """Resize and fit one image.

  Args:
    framing: what to do.
    image: uint8 [h, w, 3].

  Returns:
    uint8 [h, w, 3] of whole units, and its size before padding, int32 [2].
  """
  target = framing.resized(*image.shape[:2])
  if target != image.shape[:2]:
    resized = Image.fromarray(image).resize(
      target[::-1], Image.Resampling.BICUBIC
    )
    image = np.asarray(resized)
  true_size = []
  for axis in (0, 1):
    offset, kept, whole = framing.fitted(image.shape[axis])
    index = np.minimum(np.arange(whole), kept - 1) + offset
    image = image.take(index, axis=axis)
    true_size.append(kept)
  return image, np.array(true_size, np.int32)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _list_batch(codec, max_elements, images):
  coefficients = dct.to_coefficients(codec, images)
  elements = sparse.to_elements(codec, coefficients, max_elements)
  return {
    "channel": elements.channel.astype(np.int16),
    "position": elements.position.astype(np.int16),
    "value": elements.value.astype(np.int16),
    "length": elements.length,
    "total": elements.total,
    "clipped": dct.clip(codec, coefficients)[1],
  }


def _whole(codec, room, framing, record):
  """One row, chunk 0, of one record."""
  image, size = apply_frame(framing, record["image"])
  blocks = np.array(image.shape[:2], np.int32) // codec.block
  if (blocks > (codec.rows, codec.cols)).any():
    raise ValueError(
      f"image of {blocks[0]} x {blocks[1]} blocks must fit the canvas of"
      f" {codec.rows} x {codec.cols}: set resize"
    )
  channel, position, value = _list_image(codec, image)
  clipped = np.clip(value, -codec.max_value, codec.max_value)
  length = min(len(value), room)
  leaves = {
    **{
      name: np.pad(leaf[:room].astype(np.int16), (0, room - length))
      for name, leaf in [
        ("channel", channel),
        ("position", position),
        ("value", clipped),
      ]
    },
    "length": np.int32(length),
    "total": np.int32(len(value)),
    "clipped": np.sum(clipped != value, dtype=np.int32),
    "chunk": np.int32(0),
    "size": size,
    "blocks": blocks,
    "label": np.int32(record["label"]),
    "example_id": np.int32(record["example_id"]),
  }
  return {name: np.asarray(leaf)[None] for name, leaf in leaves.items()}


def _with_chunks(row, chunk):
  repeated = {
    name: np.repeat(leaf, len(chunk), axis=0) for name, leaf in row.items()
  }
  return {**repeated, "chunk": chunk}


def _list_image(codec, image):
  """Channel, position and value of one image, in visit order."""
  pixels = image.astype(np.float32) - np.float32(128)
  y, cb, cr = (
    sum(pixels[..., i] * np.float32(row[i]) for i in range(3))
    for row in dct.COLOR
  )
  luma_table, chroma_table = codec.tables()
  planes = [_transform(codec, y, luma_table)]
  for plane in (cb, cr):
    half = reduce(plane, "(h y) (w x) -> h w", "mean", y=2, x=2)
    planes.append(_transform(codec, half, chroma_table))
  rows, cols = y.shape[0] // codec.block, y.shape[1] // codec.block
  grid = np.arange(rows)[:, None] * codec.cols + np.arange(cols)
  grids = [grid.reshape(-1), grid[::2, ::2].reshape(-1)]

  pieces = []
  for channels in _runs(codec):
    plane = channels[0] // codec.block**2
    values = planes[plane][channels % codec.block**2]  # [z, cells]
    index, cell = np.nonzero(values)
    pieces.append(
      (channels[index], grids[min(plane, 1)][cell], values[index, cell])
    )
  return tuple(np.concatenate(leaves) for leaves in zip(*pieces))


def _runs(codec):
  """The visit order, cut where the plane changes."""
  order = sparse.visit_order(codec)
  plane = order // codec.block**2
  return np.split(order, np.flatnonzero(np.diff(plane)) + 1)


def _transform(codec, plane, table):
  """Quantised coefficients by zigzag index, int32 [B^2, blocks]."""
  b = codec.block
  basis = dct.basis(b).astype(np.float32)
  blocks = rearrange(plane, "(r y) (c x) -> (r c) y x", y=b, x=b)
  scaled = basis @ blocks @ basis.T / table.astype(np.float32)
  values = np.round(scaled - np.float32(dct.TIE)).astype(np.int32)
  return rearrange(values, "n u v -> (u v) n")[dct.zigzag(b)]
