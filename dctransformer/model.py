"""DCTransformer: one encoder, three decoders (Nash et al. 2021, sec. 3).

p(list) = prod_l p(c_l | past) p(p_l | c_l, past) p(v_l | c_l, p_l, past),
where the past of a chunk is the partial DCT image that the encoder reads and
the earlier elements of the chunk.

Shapes: b batch, h w rows and columns of the canvas in blocks, c DCT channels,
s encoder tokens, t slots of a chunk, d width.
"""

import dataclasses
import math

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from einops import rearrange

from dctransformer import chunks, dct
from layers import attention, positions, transformer
from layers import logits as logits_lib

_embedding = nn.initializers.normal(0.02)


@dataclasses.dataclass(frozen=True)
class Layout:
  """Feed-forwards per attention of the four stacks (the paper's PAR lists)."""

  encoder: tuple[int, ...]
  channel: tuple[int, ...]
  position: tuple[int, ...]
  value: tuple[int, ...]

  def __post_init__(self):
    for field in dataclasses.fields(self):
      counts = getattr(self, field.name)
      if not counts or min(counts) < 1:
        raise ValueError(
          f"{field.name} {counts} must be a block or more, each of at least 1 "
          "feed-forward"
        )


@flax.struct.dataclass
class Logits:
  """Logits of every slot of a chunk, float32.

  channel [b, t, c + 1] (the last class stops), position [b, t, h w], value
  [b, t, 2 V].
  """

  channel: jax.Array
  position: jax.Array
  value: jax.Array


class DCTransformer(nn.Module):
  """The four networks and the embeddings that they share.

  Attributes:
    codec: geometry and vocabulary sizes.
    plan: chunk length and overlap.
    shape: width, heads, dropout, precision of every stack.
    layout: feed-forwards per attention, four lists.
    num_classes: classes of the condition; 0 is unconditional. Label
      num_classes is the null class.
    stride: of the encoder's convolution; a token covers stride^2 blocks.
    kernel: side of that convolution's window.
    class_scale: deviation of the class embedding at the start; short runs
      learn the label sooner when it stands out.
  """

  codec: dct.Codec
  plan: chunks.Plan
  shape: transformer.Shape
  layout: Layout
  num_classes: int = 0
  stride: int = 2
  kernel: int = 4
  class_scale: float = 0.02

  def __post_init__(self):
    if self.stride < 1 or self.kernel < 1:
      raise ValueError(
        f"stride {self.stride} and kernel {self.kernel} must be at least 1"
      )
    super().__post_init__()

  def setup(self):
    codec, width = self.codec, self.shape.width
    table = lambda size: nn.Embed(size, width, embedding_init=_embedding)
    # One row a channel, one for the stop (never an input), one for the start.
    self.channel_table = table(codec.num_channels + 2)
    self.position_table = table(codec.num_positions)
    self.value_table = table(codec.num_values)
    self.slot_table = table(self.plan.overlap + self.plan.chunk_len)
    self.chunk_table = table(self.plan.max_chunks)
    # True sizes are even numbers of blocks.
    self.rows_table = table(codec.rows // 2 + 1)
    self.cols_table = table(codec.cols // 2 + 1)
    if self.num_classes:
      self.class_table = nn.Embed(
        self.num_classes + 1,
        width,
        embedding_init=nn.initializers.normal(self.class_scale),
      )

    self.patch = nn.Conv(
      width,
      (self.kernel, self.kernel),
      (self.stride, self.stride),
      padding="SAME",
      dtype=self.shape.dtype,
    )
    self.grid = positions.Grid(*self.token_grid, width)
    self.encoder = transformer.Stack(self.shape, self.layout.encoder)
    self.encoder_norm = nn.LayerNorm(dtype=self.shape.dtype)

    cross = dataclasses.replace(self.shape, cross=True)
    stack = lambda layout: transformer.Stack(cross, layout)
    self.channel_decoder = stack(self.layout.channel)
    self.position_decoder = stack(self.layout.position)
    self.value_decoder = stack(self.layout.value)
    norm = lambda: nn.LayerNorm(dtype=self.shape.dtype)
    self.channel_norm, self.position_norm, self.value_norm = (
      norm() for _ in range(3)
    )
    head = lambda size: logits_lib.Head(size, dtype=self.shape.dtype)
    self.channel_head = head(codec.num_channels + 1)
    self.position_head = head(codec.num_positions)
    self.value_head = head(codec.num_values)

  @property
  def token_grid(self):
    """Rows and columns of encoder tokens."""
    side = lambda blocks: math.ceil(blocks / self.stride)
    return side(self.codec.rows), side(self.codec.cols)

  def __call__(self, chunk, coefficients, scale, label, blocks, train=False):
    """Return the `Logits` of every slot, teacher forced.

    Args:
      chunk: `chunks.Chunk`, arrays [b, t].
      coefficients: int32 [b, h, w, c], the elements before the chunk.
      scale: float [c], what a channel is divided by (about its deviation).
      label: int32 [b]; ignored without classes.
      blocks: int32 [b, 2], true rows and columns in blocks.
      train: whether dropout is on.
    """
    context = self.context(label, blocks)
    tokens = self.encode(coefficients, scale, context, train)
    slots = jnp.arange(chunk.channel.shape[1])
    mask = attention.causal_mask(slots.size) & chunk.visible[:, None, None]

    x = self.embed_previous(
      chunk.previous_channel, chunk.previous_position, chunk.previous_value
    )
    x += self._place(slots, chunk.chunk[:, None], context[:, None])
    x, _ = self.channel_decoder(x, tokens, mask, train)  # [b, t, d]
    channel = self.channel_head(self.channel_norm(x))

    x += self._embed(self.channel_table, chunk.channel)
    x, _ = self.position_decoder(x, tokens, mask, train)
    position = self.position_head(self.position_norm(x))

    x += self.embed_position(tokens, chunk.position)
    x, _ = self.value_decoder(x, tokens, mask, train)
    value = self.value_head(self.value_norm(x))
    return Logits(channel, position, value)

  def context(self, label, blocks):
    """Return [b, d], the embedding of the true size and the class."""
    x = self._embed(self.rows_table, blocks[:, 0] // 2)
    x += self._embed(self.cols_table, blocks[:, 1] // 2)
    if self.num_classes:
      x += self._embed(self.class_table, label)
    return x

  def encode(self, coefficients, scale, context, train=False):
    """Encode the partial DCT image (sec. 3.2).

    Args:
      coefficients: int32 [b, h, w, c].
      scale: float [c].
      context: [b, d].
      train: whether dropout is on.

    Returns:
      tokens [b, s, d], raster order.
    """
    x = (coefficients / scale).astype(self.shape.dtype)
    x = self.patch(x) + self.grid().astype(self.shape.dtype)
    x = rearrange(x, "b h w d -> b (h w) d") + context[:, None]
    x, _ = self.encoder(x, train=train)
    return self.encoder_norm(x)

  def embed_previous(self, channel, position, value):
    """Embed the element before each slot: [b, t] each -> [b, t, d].

    The start has a vector of its own, and neither position nor value.
    """
    value_class = dct.value_class(self.codec, jnp.where(value == 0, 1, value))
    rest = self._embed(self.position_table, position)
    rest += self._embed(self.value_table, value_class)
    started = (channel != self.codec.start)[..., None]
    return self._embed(self.channel_table, channel) + jnp.where(
      started, rest, 0
    )

  def embed_position(self, tokens, position):
    """Embed positions [b, t] and gather the tokens there -> [b, t, d]."""
    row, col = position // self.codec.cols, position % self.codec.cols
    place = (row // self.stride) * self.token_grid[1] + col // self.stride
    gathered = jnp.take_along_axis(tokens, place[..., None], axis=1)
    return gathered + self._embed(self.position_table, position)

  def remember(self, tokens):
    """Return cross-attention keys and values of the three decoders."""
    return (
      self.channel_decoder.remember(tokens),
      self.position_decoder.remember(tokens),
      self.value_decoder.remember(tokens),
    )

  def prefill(self, chunk, tokens, context):
    """Return the three self-attention caches of slots known beforehand.

    Args:
      chunk: `chunks.Chunk` cut to its first slots, arrays [b, t].
      tokens: [b, s, d].
      context: [b, d].
    """
    slots = jnp.arange(chunk.channel.shape[1])
    mask = attention.causal_mask(slots.size) & chunk.visible[:, None, None]
    x = self.embed_previous(
      chunk.previous_channel, chunk.previous_position, chunk.previous_value
    )
    x += self._place(slots, chunk.chunk[:, None], context[:, None])
    x, channel = self.channel_decoder(x, tokens, mask)
    x += self._embed(self.channel_table, chunk.channel)
    x, position = self.position_decoder(x, tokens, mask)
    x += self.embed_position(tokens, chunk.position)
    _, value = self.value_decoder(x, tokens, mask)
    return channel, position, value

  def step_channel(self, previous, slot, chunk, context, cache, memory, mask):
    """Decode one slot's channel.

    Args:
      previous: (channel, position, value) of the element before, int32 [b].
      slot: int scalar, slot of the chunk.
      chunk: int32 [b], index of the chunk.
      context: [b, d].
      cache: of the channel decoder.
      memory: of the channel decoder, from `remember`.
      mask: bool [b, 1, 1, t], the slots up to this one that are visible.

    Returns:
      (logits [b, c + 1], x [b, 1, d], cache).
    """
    x = self.embed_previous(*(part[:, None] for part in previous))
    x += self._place(slot[None], chunk[:, None], context[:, None])
    x, cache = self.channel_decoder.step(x, cache, memory, slot, mask)
    return self.channel_head(self.channel_norm(x))[:, 0], x, cache

  def step_position(self, x, channel, slot, cache, memory, mask):
    """Decode one slot's position, given x [b, 1, d] and its channel [b]."""
    x += self._embed(self.channel_table, channel[:, None])
    x, cache = self.position_decoder.step(x, cache, memory, slot, mask)
    return self.position_head(self.position_norm(x))[:, 0], x, cache

  def step_value(self, x, position, tokens, slot, cache, memory, mask):
    """Decode one slot's value, given x [b, 1, d] and its position [b]."""
    x += self.embed_position(tokens, position[:, None])
    x, cache = self.value_decoder.step(x, cache, memory, slot, mask)
    return self.value_head(self.value_norm(x))[:, 0], cache

  def _place(self, slots, chunk, context):
    x = self._embed(self.slot_table, slots)[None]
    return x + self._embed(self.chunk_table, chunk) + context

  def _embed(self, table, ids):
    return table(ids).astype(self.shape.dtype)


def flops(model, batch_size):
  """Return the multiply-add FLOPs of one training step, analytically.

  Forward plus twice that for the backward pass; causal attention is counted
  halved, recomputation not at all.

  Args:
    model: `DCTransformer`.
    batch_size: chunks in a batch.
  """
  codec, width = model.codec, model.shape.width
  t = model.plan.overlap + model.plan.chunk_len
  s = math.prod(model.token_grid)
  dense = lambda slots, units: 2 * slots * units * width * width
  encoder = sum(
    dense(s, 4 + 8 * count) + 4 * s * s * width
    for count in model.layout.encoder
  )
  encoder += 2 * s * model.kernel**2 * codec.num_channels * width
  decoders = sum(
    dense(t, 4 + 2 + 8 * count)  # own attention; queries, output of the other
    + dense(s, 2)  # keys, values of the encoder's tokens
    + 2 * t * t * width  # causal, halved
    + 4 * t * s * width
    for stack in (
      model.layout.channel,
      model.layout.position,
      model.layout.value,
    )
    for count in stack
  )
  heads = (
    2
    * t
    * width
    * (codec.num_channels + 1 + codec.num_positions + codec.num_values)
  )
  return 3.0 * batch_size * (encoder + decoders + heads)
