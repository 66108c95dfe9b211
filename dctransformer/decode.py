"""Sampling: chunk by chunk, element by element, with caches.

One program for a batch: encode the partial DCT image, decode the slots of a
chunk with cached keys and values, scatter, repeat until every sample has
stopped (Nash et al. 2021, sec. 3.3). A given prefix of the list is forced, so
upsampling, colourisation and completion are the same program.

Shapes: b samples, m room of a list, t slots of a chunk.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from dctransformer import chunks, dct, moves, sparse
from layers import logits as logits_lib

# Caches grow in this many steps a chunk: a full-length cache from the first
# slot would double the memory traffic.
_SEGMENTS = 4


@flax.struct.dataclass
class Settings:
  """How logits become draws; changing a number compiles nothing anew.

  Attributes:
    temperature: float [3], of channel, position and value; 0 is greedy.
    top_k: int32 [3]; 0 keeps all classes.
    top_p: float [3]; 1 keeps all classes.
    guidance: float; logits = null + guidance (label - null). Used by guided
      programs only.
  """

  temperature: jax.Array
  top_k: jax.Array
  top_p: jax.Array
  guidance: jax.Array

  @classmethod
  def create(cls, temperature=1.0, top_k=0, top_p=1.0, guidance=1.0):
    """Build from numbers, or from triples (channel, position, value).

    Raises:
      ValueError: a setting out of its range.
    """
    triple = lambda x, dtype: np.broadcast_to(np.asarray(x, dtype), (3,))
    settings = cls(
      triple(temperature, np.float32),
      triple(top_k, np.int32),
      triple(top_p, np.float32),
      np.asarray(guidance, np.float32),
    )
    if (settings.temperature < 0).any():
      raise ValueError(f"temperature {temperature} must be at least 0")
    if (settings.top_k < 0).any():
      raise ValueError(f"top_k {top_k} must be at least 0 (0 keeps all)")
    if ((settings.top_p <= 0) | (settings.top_p > 1)).any():
      raise ValueError(f"top_p {top_p} must be in (0, 1]")
    return settings


@flax.struct.dataclass
class Condition:
  """What samples are conditioned on.

  Attributes:
    label: int32 [b]; the model's num_classes is the null class.
    blocks: int32 [b, 2], rows and columns of the image in blocks, even.
    prefix: `sparse.Elements` [b, m] given in advance; length 0 gives nothing.
    first_rank: int32 [b], of `prefix.first_rank`: what is drawn begins at this
      visit rank, so that zeros at the end of what is given stay zeros.
  """

  label: jax.Array
  blocks: jax.Array
  prefix: sparse.Elements
  first_rank: jax.Array | int = 0


@flax.struct.dataclass
class _Carry:
  elements: sparse.Elements  # decoded and forced, [b, m]
  stopped: jax.Array  # bool [b]
  illegal: jax.Array  # float32 [b, 2], summed mass on illegal moves
  moves: jax.Array  # int32 [b, 2], over how many draws


def empty_prefix(batch_size, max_elements):
  """Return `Elements` [b, m] that give nothing."""
  zeros = jnp.zeros((batch_size, max_elements), jnp.int32)
  none = jnp.zeros((batch_size,), jnp.int32)
  return sparse.Elements(zeros, zeros, zeros, none, none)


def sample(
  model,
  params,
  scale,
  keys,
  condition,
  settings,
  *,
  guided=False,
  allow_illegal=False,
):
  """Sample lists of elements.

  Args:
    model: `model.DCTransformer`.
    params: its parameters.
    scale: float [c], what encoder inputs are divided by.
    keys: [b] keys; sample i depends on key i alone, never on its neighbours.
    condition: `Condition` [b].
    settings: `Settings`.
    guided: compile for classifier-free guidance (twice the work a step).
    allow_illegal: draw illegal moves too, which are masked otherwise.

  Returns:
    (`sparse.Elements` [b, m], info). A sample that reached the limit without
    a stop has total = length + 1. info: `stopped` bool [b], `illegal_channel`
    and `illegal_position` float32 [b], the mean mass that the model put on
    illegal moves before they were masked.
  """
  plan, prefix = model.plan, condition.prefix
  expand = (lambda x: jnp.concatenate([x, x])) if guided else (lambda x: x)
  label = condition.label
  if guided:
    null = jnp.full_like(label, model.num_classes)
    label = jnp.concatenate([label, null])
  apply = lambda method, *args: model.apply(params, *args, method=method)
  context = apply("context", label, expand(condition.blocks))

  def decode_chunk(state):
    index, carry = state
    start = index * plan.chunk_len
    given = carry.elements.replace(
      length=jnp.minimum(carry.elements.length, start)
    )
    coefficients = sparse.to_coefficients(model.codec, given)
    tokens = apply("encode", jax.tree.map(expand, coefficients), scale, context)
    memory = apply("remember", tokens)
    chunk = jnp.full((context.shape[0],), index, jnp.int32)
    cache = _prefill(model, apply, given, index, tokens, context, expand)
    steps = _Steps(
      model, apply, expand, keys, condition, settings, guided, allow_illegal
    )

    low = 0
    for segment in range(1, _SEGMENTS + 1):
      high = plan.chunk_len * segment // _SEGMENTS
      cache = _grow(cache, plan.overlap + high)
      body = lambda loop: steps(loop, start, chunk, tokens, context, memory)
      running = lambda loop, high=high: (
        (loop[0] < high) & ~jnp.all(loop[1].stopped)
      )
      _, carry, cache = jax.lax.while_loop(
        running, body, (jnp.asarray(low, jnp.int32), carry, cache)
      )
      low = high
    return index + 1, carry

  batch_size = label.shape[0] // (2 if guided else 1)
  first = jnp.min(prefix.length) // plan.chunk_len
  carry = _Carry(
    elements=prefix.replace(total=prefix.length),
    stopped=prefix.length >= plan.max_elements,
    illegal=jnp.zeros((batch_size, 2)),
    moves=jnp.zeros((batch_size, 2), jnp.int32),
  )
  _, carry = jax.lax.while_loop(
    lambda state: (state[0] < plan.max_chunks) & ~jnp.all(state[1].stopped),
    decode_chunk,
    (first, carry),
  )
  illegal = carry.illegal / jnp.maximum(carry.moves, 1)
  length = carry.elements.length
  elements = carry.elements.replace(
    total=jnp.where(carry.stopped, length, length + 1)
  )
  info = {
    "stopped": carry.stopped,
    "illegal_channel": illegal[:, 0],
    "illegal_position": illegal[:, 1],
  }
  return elements, info


class _Steps:
  """One decoding step: draw (channel, position, value) for one slot."""

  def __init__(
    self, model, apply, expand, keys, condition, settings, guided, allow_illegal
  ):
    self.model, self.apply, self.expand = model, apply, expand
    self.keys, self.condition, self.settings = keys, condition, settings
    self.guided, self.allow_illegal = guided, allow_illegal

  def __call__(self, loop, start, chunk, tokens, context, memory):
    step, carry, (channel_cache, position_cache, value_cache) = loop
    codec, plan = self.model.codec, self.model.plan
    apply, expand, blocks = self.apply, self.expand, self.condition.blocks
    l, slot = start + step, plan.overlap + step
    forced = l < self.condition.prefix.length  # [b]
    active = ~carry.stopped
    drawn = active & ~forced
    keys = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, l), 3))
    keys = keys(self.keys)  # [b, 3]
    before = self._before(carry.elements, l)
    given = _column(carry.elements, l)

    slots = jnp.arange(jax.tree.leaves(channel_cache)[0].shape[2])
    mask = (slots <= slot) & ((slots >= plan.overlap) | (start > 0))
    mask = mask[None, None, None]

    logits, x, channel_cache = apply(
      "step_channel",
      tuple(map(expand, before)),
      slot,
      chunk,
      context,
      channel_cache,
      memory[0],
      mask,
    )
    legal = moves.legal_channels(
      codec, before[0], before[1], blocks, self.condition.first_rank
    )
    channel, illegal_channel = self._draw(0, keys, logits, legal)
    channel = jnp.where(forced, given[0], channel)
    stop = drawn & (channel == codec.stop)
    lives = active & ~stop
    channel = jnp.where(lives, channel, 0)

    logits, x, position_cache = apply(
      "step_position",
      x,
      expand(channel),
      slot,
      position_cache,
      memory[1],
      mask,
    )
    legal = moves.legal_positions(codec, channel, before[0], before[1], blocks)
    position, illegal_position = self._draw(1, keys, logits, legal)
    position = jnp.where(forced, given[1], position)
    position = jnp.where(lives, position, 0)

    logits, value_cache = apply(
      "step_value",
      x,
      expand(position),
      tokens,
      slot,
      value_cache,
      memory[2],
      mask,
    )
    value, _ = self._draw(2, keys, logits, None)
    value = dct.class_value(codec, value)
    value = jnp.where(forced, given[2], value)
    value = jnp.where(lives, value, 0)

    elements = carry.elements
    write = lambda row, fresh, kept: row.at[:, l].set(
      jnp.where(active, fresh, kept)
    )
    counted = jnp.stack([drawn, drawn & ~stop], axis=-1)  # [b, 2]
    illegal = jnp.stack([illegal_channel, illegal_position], axis=-1)
    carry = _Carry(
      elements=elements.replace(
        channel=write(elements.channel, channel, given[0]),
        position=write(elements.position, position, given[1]),
        value=write(elements.value, value, given[2]),
        length=elements.length + (drawn & ~stop),
      ),
      stopped=carry.stopped | stop,
      illegal=carry.illegal + jnp.where(counted, illegal, 0.0),
      moves=carry.moves + counted,
    )
    return step + 1, carry, (channel_cache, position_cache, value_cache)

  def _before(self, elements, l):
    """Return (channel, position, value) [b] of element l - 1."""
    channel, position, value = _column(elements, jnp.maximum(l - 1, 0))
    first = l == 0
    return (
      jnp.where(first, self.model.codec.start, channel),
      jnp.where(first, 0, position),
      jnp.where(first, 0, value),
    )

  def _draw(self, field, keys, logits, legal):
    """Draw one field -> (class [b], mass on illegal classes [b])."""
    if self.guided:
      labelled, null = jnp.split(logits, 2)
      logits = null + self.settings.guidance * (labelled - null)
    illegal = jnp.zeros(logits.shape[0])
    if legal is not None:
      mass = jax.nn.softmax(logits, axis=-1)
      illegal = jnp.sum(jnp.where(legal, 0.0, mass), axis=-1)
      if not self.allow_illegal:
        logits = logits_lib.exclude(logits, legal)
    drawn = logits_lib.draw(
      keys[:, field],
      logits,
      self.settings.temperature[field],
      self.settings.top_k[field],
      self.settings.top_p[field],
    )
    return drawn, illegal


def _prefill(model, apply, elements, index, tokens, context, expand):
  """Return caches that hold the overlap slots of chunk `index`."""
  batch_size = elements.length.shape[0]
  chunk = chunks.slice_chunk(
    model.codec, model.plan, elements, jnp.full((batch_size,), index)
  )
  overlap = model.plan.overlap
  cut = lambda x: expand(x[:, :overlap] if x.ndim == 2 else x)
  return apply("prefill", jax.tree.map(cut, chunk), tokens, context)


def _grow(cache, slots):
  """Pad caches [r, b, l, n, k] with empty slots to a length."""

  def pad(x):
    widths = [(0, 0)] * x.ndim
    widths[2] = (0, slots - x.shape[2])
    return jnp.pad(x, widths)

  return jax.tree.map(pad, cache)


def _column(elements, l):
  at = lambda x: jax.lax.dynamic_index_in_dim(x, l, axis=1, keepdims=False)
  return at(elements.channel), at(elements.position), at(elements.value)
