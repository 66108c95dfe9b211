"""Pre-LayerNorm Transformer blocks and stacks of them, scanned by runs.

A block is one self-attention, an optional cross-attention and several
feed-forward layers (the PAR layout of Mandava et al. 2020, as in Nash et al.
2021): a stack is given as a list of feed-forwards per attention, [2, 2, 2, 4].
Equal neighbours share one compiled body through `nn.scan`.

Shapes: b batch, l slots, s memory slots, d width, n heads, k head width, r
blocks of a run.
"""

import dataclasses
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp

from layers import attention


@dataclasses.dataclass(frozen=True)
class Shape:
  """What the blocks of a stack have in common.

  Attributes:
    width: of the residual stream.
    num_heads: attention heads.
    cross: whether each block also attends to a memory.
    dropout: rate on every residual branch.
    gate: initial value of the ReZero gates (Bachlechner et al. 2020), or None
      for plain residual branches (GPT).
    head_width: k; 0 takes d / n.
    qkv_bias: whether queries, keys and values have biases.
    dtype: compute precision; parameters stay float32.
    implementation: of attention, see `attention.attend`.
    remat: recompute a block's activations in the backward pass.
    epsilon: of the LayerNorms.
  """

  width: int
  num_heads: int
  cross: bool = False
  dropout: float = 0.0
  gate: float | None = 0.0
  head_width: int = 0
  qkv_bias: bool = True
  dtype: jnp.dtype = jnp.float32
  implementation: str = "xla"
  remat: bool = False
  epsilon: float = 1e-6

  def __post_init__(self):
    if self.width < 1 or self.num_heads < 1 or self.head_width < 0:
      raise ValueError(
        f"width {self.width} and heads {self.num_heads} must be at least 1, "
        f"head_width {self.head_width} at least 0"
      )
    if not 0 <= self.dropout < 1:
      raise ValueError(f"dropout {self.dropout} must be in [0, 1)")


class FeedForward(nn.Module):
  """Dense to 4d, GELU, dense back to d."""

  shape: Shape

  @nn.compact
  def __call__(self, x):
    """Return y [b, l, d] for x [b, l, d]."""
    dense = lambda width, name: nn.Dense(
      width,
      dtype=self.shape.dtype,
      kernel_init=nn.initializers.normal(0.02),
      name=name,
    )
    y = nn.gelu(dense(4 * self.shape.width, "wide")(x), approximate=False)
    return dense(self.shape.width, "narrow")(y)


class Branch(nn.Module):
  """Pre-norm residual branch: x + g dropout(f(LN x)), g a scalar or 1."""

  shape: Shape
  layer: nn.Module

  def setup(self):
    self.norm = nn.LayerNorm(self.shape.epsilon, dtype=self.shape.dtype)
    self.dropout = nn.Dropout(self.shape.dropout)
    if self.shape.gate is not None:
      self.gate = self.param(
        "gate", nn.initializers.constant(self.shape.gate), ()
      )

  def __call__(self, x, *, train, method=None, **kwargs):
    """Return (x + gated branch, what else the layer returned or None)."""
    call = self.layer if method is None else getattr(self.layer, method)
    out = call(self.norm(x), **kwargs)
    y, rest = out if isinstance(out, tuple) else (out, None)
    y = self.dropout(y, deterministic=not train)
    if self.shape.gate is not None:
      y = self.gate.astype(y.dtype) * y
    return x + y, rest


def make_attention(shape):
  """Make the attention that a shape describes."""
  return attention.Attention(
    shape.width,
    shape.num_heads,
    head_width=shape.head_width,
    qkv_bias=shape.qkv_bias,
    dtype=shape.dtype,
    implementation=shape.implementation,
  )


class Block(nn.Module):
  """Self-attention, optional cross-attention, several feed-forwards."""

  shape: Shape
  num_feed_forwards: int

  def setup(self):
    self.attend_self = Branch(self.shape, make_attention(self.shape))
    if self.shape.cross:
      self.attend_memory = Branch(self.shape, make_attention(self.shape))
    self.feed_forwards = [
      Branch(self.shape, FeedForward(self.shape))
      for _ in range(self.num_feed_forwards)
    ]

  def __call__(self, x, memory, mask, train, angles=None):
    """Run on a whole sequence.

    Args:
      x: [b, l, d].
      memory: None, or [b, s, d] for the cross-attention.
      mask: bool, broadcastable to [b, n, l, l], or None.
      train: whether dropout is on.
      angles: None, or rotary angles of the self-attention, see
        `positions.rotate`.

    Returns:
      (x [b, l, d], (keys, values) of self-attention, each [b, l, n, k]).
    """
    x, kept = self.attend_self(x, mask=mask, angles=angles, train=train)
    if self.shape.cross:
      memory = self.remember(memory)
      x, _ = self.attend_memory(x, memory=memory, train=train)
    return self._feed(x, train), kept

  def remember(self, memory):
    """Return cross-attention (keys, values) of memory [b, s, d]."""
    return self.attend_memory.layer.keys_values(memory)

  def step(self, x, cache, memory, index, mask):
    """Run on one slot x [b, 1, d]; return (x, cache).

    Args:
      x: [b, 1, d].
      cache: (keys, values) of the self-attention, each [b, l, n, k].
      memory: None, or what `remember` returned.
      index: int scalar, the slot of x in the cache.
      mask: bool, broadcastable to [b, n, 1, l]; False after index.
    """
    x, cache = self.attend_self(
      x, method="step", cache=cache, index=index, mask=mask, train=False
    )
    if self.shape.cross:
      x, _ = self.attend_memory(x, memory=memory, train=False)
    return self._feed(x, train=False), cache

  def _feed(self, x, train):
    for layer in self.feed_forwards:
      x, _ = layer(x, train=train)
    return x


class Stack(nn.Module):
  """A stack of blocks; runs of equal blocks are scanned.

  Attributes:
    shape: what all blocks share.
    layout: feed-forwards per attention, one number a block.
  """

  shape: Shape
  layout: tuple[int, ...]

  def setup(self):
    runs = [
      (count, len(list(group)))
      for count, group in itertools.groupby(self.layout)
    ]
    self.lengths = [length for _, length in runs]
    self.runs = [Block(self.shape, count) for count, _ in runs]

  def __call__(self, x, memory=None, mask=None, train=False, angles=None):
    """Run on a whole sequence.

    Args:
      x: [b, l, d].
      memory: None, or [b, s, d] for the cross-attentions.
      mask: bool, broadcastable to [b, n, l, l], or None.
      train: whether dropout is on.
      angles: None, or rotary angles of the self-attentions, see
        `positions.rotate`.

    Returns:
      (x [b, l, d], kept): kept is a list with (keys, values) a run, each
      [r, b, l, n, k]: the cache that `step` continues.
    """
    body = lambda block, x, _: block(x, memory, mask, train, angles)
    if self.shape.remat:
      body = nn.remat(body, prevent_cse=False)
    kept = []
    for block, length in zip(self.runs, self.lengths):
      x, keys_values = self._scan(body, length)(block, x, None)
      kept.append(keys_values)
    return x, kept

  def remember(self, memory):
    """Return the cross-attentions' (keys, values) of memory [b, s, d].

    One pair a run, each [r, b, s, n, k]: computed once for many steps.
    """
    body = lambda block, carry, _: (carry, block.remember(memory))
    return [
      self._scan(body, length)(block, (), None)[1]
      for block, length in zip(self.runs, self.lengths)
    ]

  def step(self, x, cache, memory, index, mask):
    """Run on one slot; the cache travels in the scan's carry.

    Args:
      x: [b, 1, d].
      cache: list, a run each, of (keys, values) [r, b, l, n, k].
      memory: list from `remember`, or None without cross-attention.
      index: int scalar, the slot of x.
      mask: bool, broadcastable to [b, n, 1, l]; False after index.

    Returns:
      (x [b, 1, d], cache).
    """

    def body(block, carry, remembered):
      x, kept, i = carry
      layer = jax.tree.map(
        lambda a: jax.lax.dynamic_index_in_dim(a, i, keepdims=False), kept
      )
      x, layer = block.step(x, layer, remembered, index, mask)
      # Only the new slot is written back: the cache stays in place.
      write = lambda a, fresh: jax.lax.dynamic_update_slice(
        a,
        jax.lax.dynamic_slice_in_dim(fresh, index, 1, axis=1)[None],
        (i, 0, index, 0, 0),
      )
      return (x, jax.tree.map(write, kept, layer), i + 1), None

    memory = [None] * len(self.runs) if memory is None else memory
    grown = []
    for block, length, kept, remembered in zip(
      self.runs, self.lengths, cache, memory
    ):
      carry = (x, kept, jnp.zeros((), jnp.int32))
      (x, kept, _), _ = self._scan(body, length)(block, carry, remembered)
      grown.append(kept)
    return x, grown

  def _scan(self, body, length):
    return nn.scan(
      body,
      variable_axes={"params": 0},
      split_rngs={"params": True, "dropout": True},
      length=length,
    )
