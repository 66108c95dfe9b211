"""Chunks: the pieces of a list that a training step looks at.

A list of L elements ends with a stop, so it has L + 1 slots, cut into
K = ceil((L + 1) / chunk_len) chunks; chunk 0 comes first. The decoder sees
`overlap` earlier elements before the chunk, the encoder sees everything before
it (Nash et al. 2021, sec. 3.2). `t` is overlap + chunk_len.
"""

import dataclasses
import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np

from dctransformer import dct, sparse


@dataclasses.dataclass(frozen=True)
class Plan:
  """How lists are cut and how chunks are drawn.

  A list has room for max_chunks * chunk_len slots. An image whose elements
  and stop fit is complete; a longer one keeps its first `max_elements`
  elements and has no stop.

  Attributes:
    chunk_len: new elements of a chunk.
    overlap: elements of context before them, at most chunk_len.
    max_chunks: chunk limit of a list.
    exponent: chunk k of K is drawn with weight max((1 - k/K)^exponent, floor).
    floor: see `exponent`; 1 makes the draw uniform.
  """

  chunk_len: int = 896
  overlap: int = 128
  max_chunks: int = 1
  exponent: float = 3.0
  floor: float = 0.1

  def __post_init__(self):
    if self.chunk_len < 1 or self.max_chunks < 1:
      raise ValueError(
        f"chunk_len {self.chunk_len} and max_chunks {self.max_chunks} must be"
        " at least 1"
      )
    if not 0 <= self.overlap <= self.chunk_len:
      raise ValueError(
        f"overlap {self.overlap} must be between 0 and chunk_len"
        f" {self.chunk_len}"
      )
    if not 0 < self.floor <= 1 or self.exponent < 0:
      raise ValueError(
        f"floor {self.floor} must be in (0, 1] and exponent {self.exponent} at"
        " least 0: every chunk has to be reachable"
      )

  @property
  def max_elements(self) -> int:
    """Slots of a list: the most elements it holds."""
    return self.max_chunks * self.chunk_len


@flax.struct.dataclass
class Chunk:
  """Decoder inputs and targets of one chunk of each image, [b, t].

  Slot s is element l = start - overlap + s of the list.

  Attributes:
    channel: int32, target channel id; codec.stop at the stop; 0 where empty.
    position: int32, target position; 0 at the stop and where empty.
    value: int32, target value (raw); 0 at the stop and where empty.
    previous_channel: int32, channel of element l - 1; codec.start at l = 0.
    previous_position: int32, position of element l - 1; 0 at l = 0.
    previous_value: int32, value of element l - 1; 0 at l = 0.
    visible: bool, the slot holds an element or the stop.
    count_channel: bool, the channel term counts: new elements and the stop.
    count_element: bool, position and value terms count: new elements.
    start: int32 [b], list index of the first new element.
    chunk: int32 [b], index of the chunk.
  """

  channel: jax.Array
  position: jax.Array
  value: jax.Array
  previous_channel: jax.Array
  previous_position: jax.Array
  previous_value: jax.Array
  visible: jax.Array
  count_channel: jax.Array
  count_element: jax.Array
  start: jax.Array
  chunk: jax.Array


def num_chunks(plan: Plan, length: dct.Array, total: dct.Array) -> dct.Array:
  """Chunks that cover a list and, where it has one, its stop.

  Plain arithmetic: NumPy, JAX and Python numbers.
  """
  slots = length + (total == length)
  chunks = (slots + plan.chunk_len - 1) // plan.chunk_len
  # A complete list that fills every slot has no room for its stop.
  return chunks - (chunks > plan.max_chunks)


@functools.lru_cache(maxsize=16)
def probabilities(plan: Plan) -> np.ndarray:
  """Chance of chunk k among K, float64 [max_chunks + 1 (K), max_chunks (k)].

  Row 0 is unused and draws chunk 0.
  """
  total, chunk = np.ogrid[: plan.max_chunks + 1, : plan.max_chunks]
  total = np.maximum(total, 1)
  share = np.clip(1 - chunk / total, 0, 1)
  weight = np.maximum(share**plan.exponent, plan.floor) * (chunk < total)
  return weight / weight.sum(axis=1, keepdims=True)


@functools.lru_cache(maxsize=16)
def cdf_table(plan: Plan) -> np.ndarray:
  """Cumulative `probabilities`, float32 [max_chunks + 1, max_chunks].

  Exactly 1 from chunk K - 1 on, so that u < 1 never draws past the end.
  """
  cdf = np.cumsum(probabilities(plan), axis=1)
  last = np.maximum(np.arange(plan.max_chunks + 1), 1)[:, None] - 1
  cdf = np.where(np.arange(plan.max_chunks) >= last, 1.0, cdf)
  return cdf.astype(np.float32)


def draw(plan: Plan, u: dct.Array, num_chunks: dct.Array) -> dct.Array:
  """Chunk index for uniform numbers u in [0, 1): int [...] like num_chunks.

  NumPy in, NumPy out; JAX arrays work alike, also under jit.
  """
  table = cdf_table(plan)
  if isinstance(num_chunks, jax.Array):
    table = jnp.asarray(table)
  below = u[..., None] >= table[num_chunks]
  return below.sum(axis=-1).astype(np.int32)


def importance(
  plan: Plan, chunk: dct.Array, num_chunks: dct.Array
) -> jax.Array:
  """Weight (1/K) / p(k | K) that undoes the favour of early chunks.

  Under `draw` its mean is 1, and weight * (a sum over chunk k) is an unbiased
  estimate of the mean of that sum over the K chunks of the image; times K, of
  the whole list. float32, shaped like chunk.
  """
  table = probabilities(plan)
  counts = np.maximum(np.arange(len(table)), 1)[:, None]
  weight = np.divide(1.0, counts * table, where=table > 0, out=0 * table)
  return jnp.asarray(weight, jnp.float32)[num_chunks, chunk]


def slice_chunk(
  codec: dct.Codec, plan: Plan, elements: sparse.Elements, chunk: dct.Array
) -> Chunk:
  """Cut one chunk, with its overlap, out of each list.

  Args:
    codec: for the ids of start and stop.
    plan: lengths.
    elements: lists [b, m] with m = plan.max_elements.
    chunk: int32 [b], 0 <= chunk < num_chunks of the image.

  Returns:
    `Chunk` [b, t]. Chunk 0 has no overlap: its first slots are not visible.
    The input at the first overlap slot of a later chunk is the true element
    before it.

  Raises:
    ValueError: the lists do not have the plan's room.
  """
  if elements.channel.ndim != 2 or (
    elements.channel.shape[1] != plan.max_elements
  ):
    raise ValueError(
      f"lists {elements.channel.shape} must be [b, {plan.max_elements}]:"
      " max_chunks * chunk_len of the plan"
    )
  chunk = jnp.asarray(chunk, jnp.int32)
  start = chunk * plan.chunk_len
  size = plan.overlap + plan.chunk_len
  fields = jnp.stack(
    [elements.channel, elements.position, elements.value], axis=1
  ).astype(jnp.int32)  # [b, 3, m]
  # One slot more than the chunk, in front: the inputs are the targets shifted.
  fields = jnp.pad(fields, ((0, 0), (0, 0), (plan.overlap + 1, 0)))
  cut = jax.vmap(
    lambda x, i: jax.lax.dynamic_slice_in_dim(x, i, size + 1, axis=1)
  )(fields, start)  # [b, 3, t + 1]

  slot = (start - plan.overlap)[:, None] + jnp.arange(size)  # [b, t]
  length, total = elements.length[:, None], elements.total[:, None]
  real = (slot >= 0) & (slot < length)
  stop = (slot == length) & (length == total)
  new = slot >= start[:, None]
  visible = real | stop
  channel, position, value = jnp.moveaxis(
    jnp.where(real[:, None], cut[:, :, 1:], 0), 1, 0
  )
  before = jnp.where(visible[:, None], cut[:, :, :-1], 0)
  return Chunk(
    channel=jnp.where(stop, codec.stop, channel),
    position=position,
    value=value,
    previous_channel=jnp.where(
      visible & (slot == 0), codec.start, before[:, 0]
    ),
    previous_position=before[:, 1],
    previous_value=before[:, 2],
    visible=visible,
    count_channel=visible & new,
    count_element=real & new,
    start=start,
    chunk=chunk,
  )
