"""GPT over the codes of an image (Esser et al. 2021, sec. 3.2).

p(codes | condition) = prod_t p(code t | condition, codes before t). The
sequence is [prefix, codes]; all but the last code are fed, and every code is
predicted, the first from the prefix alone. The prefix is the class token, the
condition's tokens, or both; without either it is one start token.

Shapes: b batch, l codes, m condition tokens, p slots of the prefix, s slots in
all, d width, v codes of the vocabulary.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from layers import attention, positions, transformer
from layers import logits as logits_lib

_EPSILON = 1e-5  # of the authors' LayerNorms
_SCALE = 0.02
CLASSES = ("token", "added", "both")


class Prior(nn.Module):
  """Pre-LayerNorm decoder with learned positions.

  Attributes:
    num_codes: v.
    length: most slots: prefix and codes, less one.
    layers: Transformer blocks.
    width: d.
    heads: attention heads.
    num_conditions: vocabulary of the condition's tokens.
    num_classes: classes of the label; 0 ignores it. Label num_classes is the
      null class, for guidance.
    classes: how the label enters: "token", a slot of the prefix (the paper);
      "added", an embedding added to every slot; "both".
    shared: one embedding table for codes, conditions and class tokens, and
      token 0 as the start, as the authors' models have it.
    n_unmasked: the first slots that see each other in both directions.
    dropout: rate on embeddings and residual branches.
    class_scale: deviation of the added embeddings at the start.
    beside: for each code, in the model's order, which of the condition's tokens
      lies at its place; that token is then also added to the slot that predicts
      the code. Empty tells the condition by the prefix alone (the paper).
    prefixed: whether the condition's tokens are a prefix; without one, `beside`
      alone tells it, and a code sees of the condition what lies at the places
      up to its own.
    remat: recompute activations in the backward pass.
    dtype: compute precision; parameters stay float32.
    implementation: of attention, see `attention.attend`.
  """

  num_codes: int
  length: int
  layers: int
  width: int
  heads: int
  num_conditions: int = 0
  num_classes: int = 0
  classes: str = "both"
  shared: bool = False
  n_unmasked: int = 0
  dropout: float = 0.0
  class_scale: float = _SCALE
  beside: tuple[int, ...] = ()
  prefixed: bool = True
  remat: bool = False
  dtype: jnp.dtype = jnp.float32
  implementation: str = "xla"

  def setup(self):
    if self.classes not in CLASSES:
      raise ValueError(
        f'classes "{self.classes}": choose one of {", ".join(CLASSES)}'
      )
    init = nn.initializers.normal(_SCALE)
    table = lambda size: nn.Embed(size, self.width, embedding_init=init)
    num_labels = self.num_classes + 1 if self.num_classes else 0
    if self.shared:
      sizes = (self.num_codes, self.num_conditions)
      sizes += (num_labels if self._has_token else 0,)
      self.code_table = table(max(sizes))
    else:
      self.code_table = table(self.num_codes)
      if self.num_conditions and self.prefixed:
        self.condition_table = table(self.num_conditions)
      if self._has_token:
        self.class_table = table(num_labels)
      self.start = self.param("start", init, (self.width,))
    added = lambda size: nn.Embed(
      size,
      self.width,
      embedding_init=nn.initializers.normal(self.class_scale),
    )
    if self.num_classes and self.classes != "token":
      self.added_table = added(num_labels)
    if self.beside:
      self.beside_table = added(self.num_conditions)
    self.positions = positions.Table(self.length, self.width, scale=0.0)
    self.embedding_dropout = nn.Dropout(self.dropout)
    shape = transformer.Shape(
      self.width,
      self.heads,
      dropout=self.dropout,
      gate=None,
      dtype=self.dtype,
      implementation=self.implementation,
      remat=self.remat,
      epsilon=_EPSILON,
    )
    self.stack = transformer.Stack(shape, (1,) * self.layers)
    self.norm = nn.LayerNorm(_EPSILON, dtype=self.dtype)
    self.head = logits_lib.Head(
      self.num_codes, use_bias=False, dtype=self.dtype, scale=_SCALE
    )

  @property
  def _has_token(self):
    return bool(self.num_classes) and self.classes != "added"

  def prefix_length(self, num_tokens):
    """Return p for a condition of `num_tokens` tokens."""
    return max(1, num_tokens * self.prefixed + self._has_token)

  def __call__(self, codes, condition=None, label=None, train=False):
    """Return the logits of every code, teacher forced.

    Args:
      codes: int32 [b, l] in the model's order; the last one is not read.
      condition: int32 [b, m], or None for no tokens.
      label: int32 [b], or None without classes.
      train: whether dropout is on.

    Returns:
      Float32 [b, l, v]: of each code, given those before it.

    Raises:
      ValueError: the sequence is longer than the positions, the bidirectional
        slots would reach the codes, or labels are missing.
    """
    x, _ = self._run(codes[:, :-1], condition, label, train)
    return self._logits(x[:, -codes.shape[1] :])  # [b, l, v]

  def prefill(self, codes, condition=None, label=None, slot=None):
    """Read the prefix and the first codes at once.

    Args:
      codes: int32 [b, l], those known beforehand; l may be 0.
      condition: as in `__call__`.
      label: as in `__call__`.
      slot: int scalar, the slot whose next code is asked for; by default the
        last one. Slots after it hold what later steps overwrite.

    Returns:
      (logits [b, v] of the next code, cache of the p + l slots read, a list
      of (keys, values) [layers, b, p + l, n, k]).
    """
    x, cache = self._run(codes, condition, label, train=False)
    slot = x.shape[1] - 1 if slot is None else slot
    x = jax.lax.dynamic_index_in_dim(x, slot, axis=1, keepdims=False)
    return self._logits(x), cache

  def grow(self, cache, slots):
    """Pad a cache with empty slots, to `slots` of them."""

    def pad(x):
      widths = [(0, 0)] * x.ndim
      widths[2] = (0, slots - x.shape[2])
      return jnp.pad(x, widths)

    return jax.tree.map(pad, cache)

  def step(self, code, slot, condition, label, cache):
    """Read one more code.

    Args:
      code: int32 [b].
      slot: int scalar, its slot of the sequence.
      condition: as in `__call__`.
      label: int32 [b], or None.
      cache: from `prefill`, by `grow` made longer than `slot`.

    Returns:
      (logits [b, v] of the next code, cache).
    """
    x = self._embed(self.code_table, code)[:, None]  # [b, 1, d]
    x += jax.lax.dynamic_slice_in_dim(self._places(), slot, 1)
    x += self._class(label)
    x += self._beside(condition, jnp.asarray(slot)[None])
    slots = jnp.arange(jax.tree.leaves(cache)[0].shape[2])
    mask = (slots <= slot)[None, None, None]  # [1, 1, 1, s]
    x, cache = self.stack.step(x, cache, None, slot, mask)
    return self._logits(x[:, 0]), cache

  def forward_flops(self, num_codes, num_tokens):
    """Count the multiply-add FLOPs of one image, forward."""
    slots = self.prefix_length(num_tokens) + num_codes - 1
    block = 24 * slots * self.width**2 + 2 * slots**2 * self.width
    head = 2 * num_codes * self.width * self.num_codes
    return self.layers * block + head

  def _run(self, codes, condition, label, train):
    """Embed [prefix, codes] and run the stack -> (x [b, s, d], cache)."""
    x = self._prefix(codes.shape[0], condition, label)  # [b, p, d]
    if self.n_unmasked > x.shape[1]:
      raise ValueError(
        f"n_unmasked {self.n_unmasked} must not exceed the {x.shape[1]} slots "
        "of the prefix: codes would see those after them"
      )
    x = jnp.concatenate([x, self._embed(self.code_table, codes)], axis=1)
    length = x.shape[1]
    if length > self.length:
      raise ValueError(
        f"{length} slots are more than the {self.length} of this prior: "
        "raise its length, or sample with a sliding window"
      )
    x += self._places()[:length] + self._class(label)
    x += self._beside(condition, jnp.arange(length))
    x = self.embedding_dropout(x, deterministic=not train)
    free = jnp.arange(length) < self.n_unmasked
    mask = attention.causal_mask(length) | (free[:, None] & free)
    return self.stack(x, mask=mask, train=train)

  def _prefix(self, batch_size, condition, label):
    """Return the prefix's embeddings [b, p, d], without positions."""
    parts = []
    if self.num_classes and label is None:
      raise ValueError(
        f"a prior with {self.num_classes} classes needs labels; "
        f"{self.num_classes} is the null class"
      )
    if self._has_token:
      table = self.code_table if self.shared else self.class_table
      parts.append(self._embed(table, label)[:, None])
    if self.prefixed and condition is not None and condition.shape[1]:
      table = self.code_table if self.shared else self.condition_table
      parts.append(self._embed(table, condition))
    if not parts:
      start = self.code_table(jnp.asarray(0)) if self.shared else self.start
      start = start.astype(self.dtype)
      parts.append(jnp.broadcast_to(start, (batch_size, 1, self.width)))
    return jnp.concatenate(parts, axis=1)

  def _class(self, label):
    """Return what the label adds to every slot, broadcastable."""
    if not self.num_classes or self.classes == "token":
      return jnp.zeros((), self.dtype)
    return self._embed(self.added_table, label)[:, None]

  def _beside(self, condition, slots):
    """Return what is added to slots [s] about the codes they predict."""
    if not self.beside:
      return jnp.zeros((), self.dtype)
    if condition is None:
      raise ValueError("what is told beside the codes needs a condition")
    place = slots - (self.prefix_length(condition.shape[1]) - 1)  # of the code
    which = jnp.asarray(self.beside)[jnp.maximum(place, 0)]
    tokens = jnp.take(condition, which, axis=1)  # [b, s]
    told = self._embed(self.beside_table, tokens)  # [b, s, d]
    return jnp.where((place >= 0)[:, None], told, 0)

  def _places(self):
    return self.positions().astype(self.dtype)

  def _logits(self, x):
    return self.head(self.norm(x))

  def _embed(self, table, ids):
    return table(ids).astype(self.dtype)


def flops(model, num_codes, num_tokens, batch_size):
  """Return the multiply-add FLOPs of one training step, analytically.

  Forward plus twice that for the backward pass; attention is counted halved
  (causal), recomputation not at all.

  Args:
    model: `Prior`, or a model with the same methods.
    num_codes: codes of an image, l.
    num_tokens: of its condition, m.
    batch_size: images.
  """
  return 3.0 * batch_size * model.forward_flops(num_codes, num_tokens)
