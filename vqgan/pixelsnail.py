"""PixelSNAIL over the codes of an image (Chen et al. 2018).

The other model of Esser et al. 2021, Table 1: causal gated convolutions for
what is near, attention over all earlier places for what is far. It has the
members of `vqgan.prior.Prior` that training and sampling use; the codes must be
in the order by rows.

Shapes: b batch, h w rows and columns of codes, l = h w, m condition tokens, s
keys, d width, c channels, n heads, k width of a key, v codes of the vocabulary.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from layers import attention
from layers import logits as logits_lib

_INIT = nn.initializers.normal(0.02)


class PixelSNAIL(nn.Module):
  """Blocks of gated residual convolutions, each followed by attention.

  Attributes:
    num_codes: v.
    grid: h and w.
    blocks: of the two kinds of layers.
    residuals: gated convolutions a block.
    width: d.
    heads: attention heads.
    key_width: k; small, as in the paper.
    num_conditions: vocabulary of the condition's tokens.
    num_classes: classes of the label; 0 ignores it. Label num_classes is the
      null class, for guidance.
    class_scale: deviation of the table of labels at the start.
    beside: see `Prior`; the token is added to the input of the code's place.
    prefixed: see `Prior`; whether every place attends to the condition.
    dropout: rate within residual branches.
    remat: recompute activations in the backward pass.
    dtype: compute precision; parameters stay float32.
  """

  num_codes: int
  grid: tuple[int, int]
  blocks: int
  residuals: int
  width: int
  heads: int = 8
  key_width: int = 16
  num_conditions: int = 0
  num_classes: int = 0
  class_scale: float = 0.02
  beside: tuple[int, ...] = ()
  prefixed: bool = True
  dropout: float = 0.0
  remat: bool = False
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    if self.heads < 1 or self.width < 1 or self.width % self.heads:
      raise ValueError(
        f"width {self.width} must be a multiple of {self.heads} heads"
      )
    table = lambda size, init=_INIT: nn.Embed(
      size, self.width, embedding_init=init
    )
    self.code_table = table(self.num_codes)
    if self.num_conditions and self.prefixed:
      self.condition_table = table(self.num_conditions)
    if self.beside:
      self.beside_table = table(self.num_conditions)
    if self.num_classes:
      init = nn.initializers.normal(self.class_scale)
      self.class_table = table(self.num_classes + 1, init)
    self.start = self.param("start", _INIT, (self.width,))
    self.above = _conv(self.width, (1, 3), self.dtype)
    self.left = _conv(self.width, (2, 1), self.dtype)
    self.stack = _Block(
      self.residuals,
      self.width,
      self.heads,
      self.key_width,
      self.dropout,
      self.dtype,
    )
    self.head = logits_lib.Head(self.num_codes, dtype=self.dtype)

  def prefix_length(self, num_tokens):
    """Return 1: samplers count one slot before the first code."""
    del num_tokens
    return 1

  def __call__(self, codes, condition=None, label=None, train=False):
    """Return the logits float32 [b, l, v] of every code; see `Prior`.

    Raises:
      ValueError: the codes do not fill the grid, or labels are missing.
    """
    h, w = self.grid
    if codes.shape[1] != h * w:
      raise ValueError(
        f"{codes.shape[1]} codes do not fill the grid of {h} x {w}"
      )
    inputs = rearrange(
      self._embed(self.code_table, codes), "b (h w) d -> b h w d", h=h
    )
    x = _shift(self.above(jnp.pad(inputs, _pad(0, 0, 1, 1))), 1, 0)
    x += _shift(self.left(jnp.pad(inputs, _pad(1, 0, 0, 0))), 0, 1)
    memory = self._memory(len(codes), condition, label)  # [b, 1 + m, d]
    x += memory[:, :1, None]
    if self.beside:
      x += self._beside(condition)
    body = lambda block, x, _: (block(x, inputs, memory, train), None)
    if self.remat:
      body = nn.remat(body, prevent_cse=False)
    x, _ = nn.scan(
      body,
      variable_axes={"params": 0},
      split_rngs={"params": True, "dropout": True},
      length=self.blocks,
    )(self.stack, x, None)
    return self.head(rearrange(nn.elu(x), "b h w d -> b (h w) d"))

  def prefill(self, codes, condition=None, label=None, slot=None):
    """Read the first codes int32 [b, l]; see `Prior.prefill`.

    Nothing but the codes is kept: a step runs the whole network again.
    """
    known = codes.shape[1]
    room = self.grid[0] * self.grid[1] - known
    cache = jnp.pad(codes, ((0, 0), (0, room)))
    index = known if slot is None else slot
    return self._at(index, condition, label, cache), cache

  def step(self, code, slot, condition, label, cache):
    """Read one more code [b], that before slot `slot`; see `Prior.step`."""
    cache = jax.lax.dynamic_update_slice_in_dim(
      cache, code[:, None], slot - 1, axis=1
    )
    return self._at(slot, condition, label, cache), cache

  def grow(self, cache, slots):
    """Return the cache, which has room for all."""
    del slots
    return cache

  def forward_flops(self, num_codes, num_tokens):
    """Count the multiply-add FLOPs of one image, forward."""
    near = self.residuals * (2 * 4 * 2 + 2 * 4 * 4)  # of width^2
    channels = self.heads * (2 * self.key_width) / self.width
    far = 2 * 2 + 1 + 2 * channels + 2 + 2 * 2 + 2 * 2 + 2 * 4
    keys = num_codes / 2 + num_tokens * self.prefixed + 1
    attend = 2 * keys * (self.heads * self.key_width + self.width)
    block = (near + far) * self.width**2 + attend
    rest = 2 * 5 * self.width**2 + 2 * self.width * self.num_codes
    return num_codes * (self.blocks * block + rest)

  def _at(self, index, condition, label, codes):
    """Return the logits [b, v] of code `index`."""
    logits = self(codes, condition, label)
    return jax.lax.dynamic_index_in_dim(logits, index, 1, keepdims=False)

  def _memory(self, batch_size, condition, label):
    """Return what every place may attend to: a start, and the condition."""
    start = jnp.broadcast_to(
      self.start.astype(self.dtype), (batch_size, 1, self.width)
    )
    if self.num_classes:
      if label is None:
        raise ValueError(
          f"a prior with {self.num_classes} classes needs labels"
        )
      start += self._embed(self.class_table, label)[:, None]
    if not self.prefixed or condition is None or not condition.shape[1]:
      return start
    tokens = self._embed(self.condition_table, condition)
    places = _waves(condition.shape[1], self.width).astype(self.dtype)
    return jnp.concatenate([start, tokens + places], axis=1)

  def _beside(self, condition):
    """Return the token beside each code, [b, h, w, d]."""
    if condition is None:
      raise ValueError("what is told beside the codes needs a condition")
    tokens = jnp.take(condition, jnp.asarray(self.beside), axis=1)
    told = self._embed(self.beside_table, tokens)
    return rearrange(told, "b (h w) d -> b h w d", h=self.grid[0])

  def _embed(self, table, ids):
    return table(ids).astype(self.dtype)


class _Block(nn.Module):
  """Gated convolutions, then attention to all earlier places."""

  residuals: int
  width: int
  heads: int
  key_width: int
  dropout: float
  dtype: jnp.dtype

  def setup(self):
    gated = lambda kernel: _Gated(self.width, kernel, self.dropout, self.dtype)
    self.near = [gated((2, 2)) for _ in range(self.residuals)]
    self.merge = gated((1, 1))
    dense = lambda size: nn.Dense(
      size, dtype=self.dtype, kernel_init=nn.initializers.normal(0.02)
    )
    self.seen = dense(self.width)
    self.query = dense(self.heads * self.key_width)
    self.key = dense(self.heads * self.key_width)
    self.value = dense(self.width)
    self.memory_key = dense(self.heads * self.key_width)
    self.memory_value = dense(self.width)

  def __call__(self, x, inputs, memory, train):
    """Return x [b, h, w, d].

    Args:
      x: [b, h, w, d], of the codes before each place.
      inputs: [b, h, w, d], the code at each place.
      memory: [b, s, d].
      train: whether dropout is on.
    """
    for layer in self.near:
      x = layer(x, None, train)
    return self.merge(x, self._attend(x, inputs, memory), train)

  def _attend(self, x, inputs, memory):
    h, w = x.shape[1:3]
    places = jnp.broadcast_to(_places(h, w), (len(x), h, w, 2))
    places = places.astype(x.dtype)
    flat = lambda x: rearrange(x, "b h w c -> b (h w) c")
    heads = lambda x: rearrange(x, "b s (n k) -> b s n k", n=self.heads)
    seen = nn.elu(self.seen(flat(jnp.concatenate([inputs, x, places], -1))))
    q = self.query(flat(jnp.concatenate([x, places], -1)))
    k = jnp.concatenate([self.memory_key(memory), self.key(seen)], axis=1)
    v = jnp.concatenate([self.memory_value(memory), self.value(seen)], axis=1)
    # A place knows its own code as little as those after it.
    earlier = np.tril(np.ones((h * w, h * w), bool), -1)
    mask = np.pad(earlier, ((0, 0), (memory.shape[1], 0)), constant_values=True)
    y = attention.attend(heads(q), heads(k), heads(v), mask[None, None])
    return rearrange(y, "b (h w) n k -> b h w (n k)", h=h)


class _Gated(nn.Module):
  """Gated residual branch: x + a sigmoid(b); sees up and to the left."""

  width: int
  kernel: tuple[int, int]
  dropout: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x, also, train):
    """Return x [b, h, w, d]; `also` [b, h, w, d] or None joins within."""
    h, w = self.kernel
    conv = lambda y, width: _conv(width, self.kernel, self.dtype)(
      jnp.pad(_both(y), _pad(h - 1, 0, w - 1, 0))
    )
    y = conv(x, self.width)
    if also is not None:
      y += nn.Dense(self.width, dtype=self.dtype)(_both(also))
    y = nn.Dropout(self.dropout)(y, deterministic=not train)
    a, b = jnp.split(conv(y, 2 * self.width), 2, axis=-1)
    return x + a * nn.sigmoid(b)


def _conv(width, kernel, dtype):
  return nn.Conv(width, kernel, padding="VALID", dtype=dtype)


def _both(x):
  """Concatenate the rectified halves of x and -x."""
  return jnp.concatenate([nn.elu(x), nn.elu(-x)], axis=-1)


def _pad(top, bottom, left, right):
  return ((0, 0), (top, bottom), (left, right), (0, 0))


def _shift(x, down, right):
  """Move a grid [b, h, w, c]; what comes in is 0, what goes out is lost."""
  h, w = x.shape[1:3]
  return jnp.pad(x, _pad(down, 0, right, 0))[:, :h, :w]


def _places(h, w):
  """Return row and column of each place, [h, w, 2] in -1..1."""
  axis = lambda n: np.linspace(-1.0, 1.0, n) if n > 1 else np.zeros(1)
  rows, cols = np.meshgrid(axis(h), axis(w), indexing="ij")
  return jnp.asarray(np.stack([rows, cols], axis=-1), jnp.float32)


def _waves(length, width):
  """Return sinusoids of the condition's places, [m, d]."""
  rates = 1e4 ** (-np.arange(0, width, 2) / width)
  angles = np.arange(length)[:, None] * rates
  waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
  return jnp.asarray(0.02 * waves[:, :width], jnp.float32)
