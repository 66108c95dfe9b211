"""Pictures of lists: heat maps of positions and progressive decodes."""

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from einops import repeat

from dctransformer import dct, prefix, sparse


def counts(codec, elements):
  """Count the elements at each position, int32 [b, rows, cols]."""
  room = elements.channel.shape[-1]
  held = np.arange(room) < np.asarray(elements.length)[:, None]
  total = np.zeros((len(held), codec.num_positions), np.int32)
  row, slot = np.nonzero(held)
  np.add.at(total, (row, np.asarray(elements.position)[row, slot]), 1)
  return total.reshape(-1, codec.rows, codec.cols)


def heat_maps(codec, elements):
  """Draw where the elements lie ("sampling sparsity" of the paper's talk).

  Returns:
    uint8 [b, h, w, 3], one coloured square a block, bright where many
    elements are; each image by its own maximum.
  """
  total = counts(codec, elements).astype(np.float32)
  share = total / np.maximum(total.max(axis=(1, 2), keepdims=True), 1)
  colours = matplotlib.colormaps["magma"](share)[..., :3]
  colours = np.round(255 * colours).astype(np.uint8)
  return repeat(
    colours, "b r c d -> b (r y) (c x) d", y=codec.block, x=codec.block
  )


def progressive(codec, elements, lengths):
  """Decode growing prefixes of each list.

  Args:
    codec: `dct.Codec`.
    elements: `sparse.Elements` [b, m].
    lengths: elements to use, one number a stage.

  Returns:
    uint8 [b, stages, h, w, 3].
  """

  @jax.jit
  def decode(elements, length):
    some = prefix.cut(elements, jnp.full_like(elements.length, length))
    return dct.to_image(codec, sparse.to_coefficients(codec, some))

  stages = [np.asarray(decode(elements, length)) for length in lengths]
  return np.stack(stages, axis=1)


def doubling(chunk_len, longest):
  """Return the lengths after 1, 2, 4, ... chunks, up to the longest list."""
  lengths = [chunk_len]
  while lengths[-1] < longest:
    lengths.append(2 * lengths[-1])
  return lengths
