"""Sampling a prior: code by code, keys and values kept.

One program for a batch: read the prefix and the codes known by all, then draw
and feed one code at a time. The cache is as long as the codes so far need, in
a few steps, and travels in the loop's carry. Any model with `prefill`, `step`,
`grow` and `prefix_length` of `vqgan.prior.Prior` is sampled so.

Shapes: b samples, l codes, m condition tokens, p slots of the prefix, v codes
of the vocabulary.
"""

import itertools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from layers import logits as logits_lib

# The cache grows in at most so many steps of at least so many codes: a full
# one from the first code on would double the memory traffic.
_SEGMENTS = 4
_SEGMENT = 32


@flax.struct.dataclass
class Settings:
  """How logits become draws; changing a number compiles nothing anew.

  Attributes:
    temperature: float; 0 is greedy.
    top_k: int32; 0, or more than the vocabulary, keeps all codes.
    top_p: float; 1 keeps all codes.
    guidance: float; logits = null + guidance (label - null). Used by guided
      programs only.
  """

  temperature: jax.Array
  top_k: jax.Array
  top_p: jax.Array
  guidance: jax.Array

  @classmethod
  def create(cls, temperature=1.0, top_k=0, top_p=1.0, guidance=1.0):
    """Build from numbers.

    Raises:
      ValueError: a setting out of its range.
    """
    if not temperature >= 0:
      raise ValueError(f"temperature {temperature} must be at least 0")
    if top_k < 0:
      raise ValueError(f"top_k {top_k} must be at least 0 (0 keeps all)")
    if not 0 < top_p <= 1:
      raise ValueError(f"top_p {top_p} must be in (0, 1]")
    return cls(
      np.asarray(temperature, np.float32),
      np.asarray(top_k, np.int32),
      np.asarray(top_p, np.float32),
      np.asarray(guidance, np.float32),
    )


@flax.struct.dataclass
class Given:
  """Codes that samples must have, in the model's order.

  Attributes:
    codes: int32 [b, l].
    keep: bool [b, l]; where it is False the code is drawn.
  """

  codes: jax.Array
  keep: jax.Array


def sample(
  model,
  params,
  keys,
  length,
  settings,
  *,
  condition=None,
  label=None,
  given=None,
  known=0,
  guided=False,
):
  """Draw codes.

  Args:
    model: `prior.Prior`, or a model with the same methods.
    params: its variables.
    keys: [b] keys; code t of sample i is drawn with fold_in(key i, t), so a
      sample never depends on its neighbours.
    length: l, codes of a sample.
    settings: `Settings`.
    condition: int32 [b, m] tokens, or None.
    label: int32 [b], or None without classes.
    given: `Given`, or None.
    known: how many first codes all samples keep; read at once, not one by one.
    guided: compile for classifier-free guidance (twice the work a step).

  Returns:
    int32 [b, l] in the model's order.

  Raises:
    ValueError: guidance without classes, or more known codes than given.
  """
  if known and (given is None or known > length):
    raise ValueError(f"{known} known codes need as many given ones")
  reader = Reader(model, params, condition, label, guided)
  batch_size = keys.shape[0]
  codes = jnp.zeros((batch_size, length), jnp.int32)
  if given is not None:
    codes = jnp.where(given.keep, given.codes, 0).astype(jnp.int32)
    codes = codes.at[:, :known].set(given.codes[:, :known])
  if known == length:
    return codes

  def choose(t, codes, logits):
    keys_t = jax.vmap(jax.random.fold_in, (0, None))(keys, t)
    code = reader.draw(keys_t, logits, settings)
    if given is not None:
      code = jnp.where(given.keep[:, t], given.codes[:, t], code)
    return codes.at[:, t].set(code.astype(jnp.int32)), code

  def read_on(t, loop):
    codes, logits, cache = loop
    codes, code = choose(t, codes, logits)
    logits, cache = reader.step(code, t, cache)
    return codes, logits, cache

  logits, cache = reader.prefill(codes[:, :known])
  last = length - 1
  for low, high in _segments(known, last):
    cache = reader.grow(cache, high)
    codes, logits, cache = jax.lax.fori_loop(
      low, high, read_on, (codes, logits, cache)
    )
  return choose(last, codes, logits)[0]


class Reader:
  """A model with its condition, doubled where samples are guided.

  Attributes:
    prefix: p.
  """

  def __init__(self, model, params, condition, label, guided):
    if guided and not model.num_classes:
      raise ValueError("guidance needs a prior with classes")
    self.model, self.guided = model, guided
    self.params = halve(params, model.dtype)
    self.condition = condition if condition is None else self._twice(condition)
    self.label = label
    if guided:
      null = jnp.full_like(label, model.num_classes)
      self.label = jnp.concatenate([label, null])
    tokens = 0 if condition is None else condition.shape[1]
    self.prefix = model.prefix_length(tokens)

  def prefill(self, codes, at=None):
    """Read the prefix and codes int32 [b, l] -> (logits, cache).

    The logits are those of code `at` (traced; l by default).
    """
    slot = None if at is None else self.prefix - 1 + at
    return self._apply(
      "prefill", self._twice(codes), self.condition, self.label, slot
    )

  def step(self, code, t, cache):
    """Read code int32 [b], the t-th -> (logits of the next one, cache)."""
    slot = self.prefix + t
    return self._apply(
      "step", self._twice(code), slot, self.condition, self.label, cache
    )

  def grow(self, cache, num_codes):
    """Make room for the prefix and `num_codes` codes."""
    return self.model.grow(cache, self.prefix + num_codes)

  def draw(self, keys, logits, settings):
    """Draw one code a sample, each with its own key -> int32 [b]."""
    if self.guided:
      labelled, null = jnp.split(logits, 2)
      logits = null + settings.guidance * (labelled - null)
    return logits_lib.draw(
      keys, logits, settings.temperature, settings.top_k, settings.top_p
    )

  def _apply(self, method, *args):
    return self.model.apply(self.params, *args, method=method)

  def _twice(self, x):
    return jnp.concatenate([x, x]) if self.guided else x


def halve(params, dtype):
  """Cast the matrices of a model to its compute precision, once.

  Every layer would do the same to them at every code, and read twice the
  bytes. Other parameters stay float32.
  """

  def cast(path, leaf):
    heavy = path[-1].key in ("kernel", "embedding")
    return leaf.astype(dtype) if heavy else leaf

  return jax.tree_util.tree_map_with_path(cast, params)


def _segments(low, high):
  """Cut codes low..high into runs of one cache length -> [(low, high)]."""
  count = min(_SEGMENTS, max(1, (high - low) // _SEGMENT))
  cuts = [low + (high - low) * i // count for i in range(count + 1)]
  return list(itertools.pairwise(cuts))
