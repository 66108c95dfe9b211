"""Multi-head attention: over a whole sequence, and one cached step at a time.

Shapes: b batch, l queries, s keys, d width, n heads, k width of a head.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from layers import positions

_MASKED = -1e30
_PIECE = 128  # queries: 16 MiB of logits for 8 times 4 heads and 1,024 keys


def attend(q, k, v, mask=None, implementation="xla"):
  """Mix values by softmax(q k^T / sqrt(width)) (Vaswani et al. 2017, 3.2.1).

  Args:
    q: queries [b, l, n, k].
    k: keys [b, s, n, k].
    v: values [b, s, n, k].
    mask: None or bool, broadcastable to [b, n, l, s]; False hides a key. A
      query that sees no key gets the mean of all values: keep one visible.
    implementation: "xla" (einsum, softmax in float32), "pieces" (the same for
      some queries at a time, see `attend_in_pieces`: less memory, and at
      1,024 keys less time on CPUs) or "cudnn" (fused, on NVIDIA GPUs and in
      half precision only).

  Returns:
    [b, l, n, k] in the dtype of v.
  """
  if implementation == "cudnn":
    return jax.nn.dot_product_attention(
      q, k, v, mask=mask, implementation="cudnn"
    )
  if implementation == "pieces":
    return attend_in_pieces(q, k, v, mask)
  if implementation != "xla":
    raise ValueError(
      f'attention implementation "{implementation}": choose "xla", "pieces" or '
      '"cudnn"'
    )
  scale = q.shape[-1] ** -0.5
  logits = jnp.einsum(
    "blnk,bsnk->bnls", q * scale, k, preferred_element_type=jnp.float32
  )  # [b, n, l, s]
  if mask is not None:
    logits = jnp.where(mask, logits, _MASKED)
  weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
  # Transposed afterwards: to ask for [b, l, n, k] turns the product around, and
  # then it takes XLA's kernels for CPUs up to four times as long.
  y = jnp.einsum("bnls,bsnk->bnlk", weights, v)
  return rearrange(y, "b n l k -> b l n k")


def attend_in_pieces(q, k, v, mask=None, size=_PIECE):
  """`attend`, for at most `size` queries at a time.

  The weights are computed again in the backward pass, so that memory holds
  those of one piece, not all l x s.

  Args:
    q: queries [b, l, n, k].
    k: keys [b, s, n, k].
    v: values [b, s, n, k].
    mask: None or bool, see `attend`.
    size: at least 1.

  Returns:
    [b, l, n, k] in the dtype of v.
  """
  length = q.shape[1]
  if length <= size:
    return attend(q, k, v, mask)
  num = -(-length // size)
  size = -(-length // num)
  # Queries of zeros make the pieces equal; what they see is cut off again.
  fill = num * size - length
  q = jnp.pad(q, ((0, 0), (0, fill), (0, 0), (0, 0)))
  pieces = {"q": rearrange(q, "b (p l) n k -> p b l n k", l=size)}
  if mask is not None and mask.ndim > 1 and mask.shape[-2] > 1:
    mask = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
    mask = jnp.pad(mask, ((0, 0), (0, 0), (0, fill), (0, 0)))
    pieces["mask"] = rearrange(mask, "b n (p l) s -> p b n l s", l=size)

  @jax.checkpoint
  def piece(part):
    return attend(part["q"], k, v, part.get("mask", mask))

  x = rearrange(jax.lax.map(piece, pieces), "p b l n k -> b (p l) n k")
  return x[:, :length]


def causal_mask(length):
  """Return bool [1, 1, l, s]: a query sees its own slot and those before."""
  return jnp.tril(jnp.ones((length, length), bool))[None, None]


class Attention(nn.Module):
  """Attention whose keys and values can be kept: projections and `attend`.

  Attributes:
    width: d of queries and output; a multiple of num_heads.
    num_heads: heads.
    head_width: k; 0 takes d / n, and then d must be a multiple of n.
    qkv_bias: whether queries, keys and values have biases.
    dtype: compute precision; parameters stay float32.
    implementation: see `attend`.
  """

  width: int
  num_heads: int
  head_width: int = 0
  qkv_bias: bool = True
  dtype: jnp.dtype = jnp.float32
  implementation: str = "xla"

  def setup(self):
    if not self.head_width and self.width % self.num_heads:
      raise ValueError(
        f"width {self.width} must be a multiple of {self.num_heads} heads"
      )
    inner = self.num_heads * self.head_width or self.width
    dense = lambda width, use_bias: nn.Dense(
      width,
      use_bias=use_bias,
      dtype=self.dtype,
      kernel_init=nn.initializers.normal(0.02),
    )
    self.query, self.key, self.value = (
      dense(inner, self.qkv_bias) for _ in range(3)
    )
    self.out = dense(self.width, True)

  def __call__(self, x, memory=None, mask=None, angles=None):
    """Attend from x [b, l, d] to memory (to x itself by default).

    Args:
      x: [b, l, d].
      memory: None, or (keys, values) from `keys_values`, each [b, s, n, k].
      mask: see `attend`.
      angles: None, or the rotary angles of x, see `positions.rotate`; the
        memory was rotated by its own.

    Returns:
      (y [b, l, d], (keys, values)); the latter may be kept in a cache.
    """
    k, v = self.keys_values(x, angles) if memory is None else memory
    q = self._rotated(self._heads(self.query(x)), angles)
    y = attend(q, k, v, mask, self.implementation)  # [b, l, n, k]
    return self.out(rearrange(y, "b l n k -> b l (n k)")), (k, v)

  def step(self, x, cache, index, mask):
    """Attend from one new slot to a cache, after writing the slot into it.

    Args:
      x: [b, 1, d].
      cache: (keys, values), each [b, s, n, k].
      index: int scalar, the slot to write.
      mask: bool, broadcastable to [b, n, 1, s]; hide the slots after index.

    Returns:
      (y [b, 1, d], cache).
    """
    write = lambda kept, fresh: jax.lax.dynamic_update_slice_in_dim(
      kept, fresh.astype(kept.dtype), index, axis=1
    )
    cache = jax.tree.map(write, cache, self.keys_values(x))
    y, _ = self(x, cache, mask)
    return y, cache

  def keys_values(self, memory, angles=None):
    """Project memory [b, s, d] to (keys, values), each [b, s, n, k].

    `angles` are the memory's, see `positions.rotate`.
    """
    k = self._rotated(self._heads(self.key(memory)), angles)
    return k, self._heads(self.value(memory))

  def _rotated(self, x, angles):
    return x if angles is None else positions.rotate(x, angles)

  def _heads(self, x):
    return rearrange(x, "b l (n k) -> b l n k", n=self.num_heads)
