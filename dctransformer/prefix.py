"""Given prefixes of a list: upsampling, colourisation, completion.

Because a list runs from coarse to fine, each of the paper's conditional tasks
is a prefix: band 0 is the image downsampled B times, the luma of a luma-first
list is the grey image (Nash et al. 2021, sec. 4).
"""

import jax.numpy as jnp
import numpy as np

from dctransformer import sparse

KINDS = ("upsample", "colorize", "complete")


def take(codec, elements, kind, fraction=0.0):
  """Keep the prefix that a task conditions on.

  Args:
    codec: `dct.Codec`; colorize needs the order "luma_first".
    elements: `sparse.Elements` [b, m] of the image.
    kind: "upsample" keeps band 0, "colorize" all luma, "complete" the first
      `fraction` of the elements.
    fraction: in [0, 1), for "complete".

  Returns:
    `sparse.Elements` [b, m], zero past the prefix, total = length.

  Raises:
    ValueError: an unknown kind, the wrong order, or a fraction out of range.
  """
  if kind not in KINDS:
    raise ValueError(f'kind "{kind}" must be one of {", ".join(KINDS)}')
  held = np.arange(elements.channel.shape[-1]) < elements.length[..., None]
  if kind == "complete":
    if not 0 <= fraction < 1:
      raise ValueError(f"fraction {fraction} must be in [0, 1)")
    length = jnp.floor(elements.length * fraction).astype(jnp.int32)
  elif kind == "upsample":
    band = jnp.asarray(sparse.band(codec))[elements.channel]
    # In a luma-first list the band 0 of chroma is no prefix: luma's alone is.
    if codec.order == "luma_first":
      band = jnp.where(elements.channel < codec.block**2, band, 1)
    length = jnp.sum(held & (band == 0), axis=-1, dtype=jnp.int32)
  else:
    if codec.order != "luma_first":
      raise ValueError(
        f'order "{codec.order}" lists colours among the luma: colorize needs a'
        ' model trained with model.order="luma_first"'
      )
    luma = elements.channel < codec.block**2
    length = jnp.sum(held & luma, axis=-1, dtype=jnp.int32)
  return cut(elements, length)


def first_rank(codec, kind):
  """Return the visit rank (int) at which a task begins to draw.

  A list has no zeros: that an image given by "upsample" or "colorize" has none
  of a channel is known from this rank alone. "complete" gives no whole
  channels, so that it begins at 0.
  """
  if kind == "complete":
    return 0
  order = sparse.visit_order(codec)
  if kind == "colorize" or codec.order == "luma_first":
    order = order[order < codec.block**2]
  if kind == "upsample":
    order = order[sparse.band(codec)[order] == 0]
  return len(order)


def cut(elements, length):
  """Keep the first `length` (int32 [b]) elements of each list."""
  length = jnp.minimum(length, elements.length)
  kept = np.arange(elements.channel.shape[-1]) < length[..., None]
  keep = lambda x: jnp.where(kept, x, 0)
  return sparse.Elements(
    keep(elements.channel),
    keep(elements.position),
    keep(elements.value),
    length,
    length,
  )
