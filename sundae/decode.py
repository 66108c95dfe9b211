"""Sampling: denoise everything a few times, accept a part each time.

One compiled loop. Start from uniform codes; at each step draw every code from
the model and accept each with a chance, so that any place may be revised at
any step. A sample for which the model drew the very codes that it has is
finished by itself; McKinney & Willcocks 2022 (sec. 3.3) finish any in which
nothing changed. Codes that are given and kept make the same loop inpaint.

Shapes: b samples, h w rows and columns of codes, v codes of the vocabulary, t
steps.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from layers import logits as logits_lib


@flax.struct.dataclass
class Settings:
  """How to denoise; changing any of it compiles nothing anew.

  Attributes:
    steps: int32, at most that many.
    min_steps: int32; only later steps may finish a sample.
    agreed: bool; finish a sample only where all its codes were drawn again,
      instead of wherever nothing changed: with few wrong codes or a small
      proportion, many a step accepts nothing of what it drew.
    temperature: float [2], of the first and of the last step, linear between.
    proportion: float [2], the chance that a drawn code is accepted, likewise.
    top_k: int32; 0 keeps all codes.
    top_p: float; 1 keeps all codes.
    guidance: float; logits = null + guidance (label - null). Used by guided
      programs only.
    confident: bool; of the drawn codes that are other than those there, accept
      the proportion that the model finds likeliest, at least one, instead of
      any.
    confidence_noise: float; Gumbel noise of this scale on the log-probabilities
      gives less likely ones a chance (after Chang et al. 2022, who let it fall
      to 0). At 1 places are drawn in proportion to how likely their codes
      are; 0 is the exact order.
    argmax: bool; one more step takes the likeliest code everywhere, in samples
      that did not finish by themselves.
  """

  steps: jax.Array
  min_steps: jax.Array
  agreed: jax.Array
  temperature: jax.Array
  proportion: jax.Array
  top_k: jax.Array
  top_p: jax.Array
  guidance: jax.Array
  confident: jax.Array
  confidence_noise: jax.Array
  argmax: jax.Array

  @classmethod
  def create(
    cls,
    steps=100,
    temperature=0.8,
    proportion=0.5,
    *,
    min_steps=10,
    agreed=True,
    top_k=0,
    top_p=1.0,
    guidance=1.0,
    confident=False,
    confidence_noise=1.0,
    argmax=False,
  ):
    """Build from numbers; temperature and proportion also as (start, end).

    Raises:
      ValueError: a setting out of its range.
    """
    both = lambda x: np.broadcast_to(np.asarray(x, np.float32), (2,))
    inside = lambda x, low, high: ((low <= both(x)) & (both(x) <= high)).all()
    for name, x in (
      ("steps", steps),
      ("min_steps", min_steps),
      ("top_k", top_k),
    ):
      if not np.isfinite(x) or x != int(x):
        raise ValueError(f"{name} {x} must be a whole number")
    if steps < 1 or min_steps < 0:
      raise ValueError(
        f"steps {steps} must be at least 1 and min_steps {min_steps} at least 0"
      )
    if max(steps + argmax, min_steps, top_k) >= 2**31:
      raise ValueError(
        f"steps {steps}, min_steps {min_steps} and top_k {top_k} must be below "
        "2**31"
      )
    if not inside(temperature, 0, np.inf):
      raise ValueError(f"temperature {temperature} must be at least 0")
    if not inside(proportion, 0, 1):
      raise ValueError(f"proportion {proportion} must be in 0..1")
    if top_k < 0:
      raise ValueError(f"top_k {top_k} must be at least 0 (0 keeps all)")
    if not 0 < top_p <= 1:
      raise ValueError(f"top_p {top_p} must be in (0, 1]")
    if not np.isfinite(guidance):
      raise ValueError(f"guidance {guidance} must be finite")
    if not 0 <= confidence_noise < np.inf:
      raise ValueError(
        f"confidence_noise {confidence_noise} must be at least 0 and finite"
      )
    return cls(
      np.int32(steps),
      np.int32(min_steps),
      np.bool_(agreed),
      both(temperature),
      both(proportion),
      np.int32(top_k),
      np.float32(top_p),
      np.float32(guidance),
      np.bool_(confident),
      np.float32(confidence_noise),
      np.bool_(argmax),
    )


@flax.struct.dataclass
class Condition:
  """What samples are conditioned on.

  Attributes:
    label: int32 [b]; the model's num_classes is the null class.
    codes: int32 [b, h, w], given codes; they matter where `keep` is True.
    keep: bool [b, h, w], which of them come back as they are.
  """

  label: jax.Array
  codes: jax.Array
  keep: jax.Array


@flax.struct.dataclass
class _Carry:
  step: jax.Array  # int32
  codes: jax.Array  # int32 [b, h, w]
  stopped: jax.Array  # bool [b]
  steps: jax.Array  # int32 [b]
  history: jax.Array  # int32 [t, b, h, w]


def nothing_given(label, grid):
  """Return the condition of plain samples: labels [b] and no codes."""
  shape = (*label.shape, *grid)
  return Condition(label, jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool))


def schedule(ends, step, steps):
  """Return the setting of a step: `ends[0]` at 0, `ends[1]` at steps - 1."""
  return ends[0] + (ends[1] - ends[0]) * step / jnp.maximum(steps - 1, 1)


def sample(model, params, keys, condition, settings, *, guided=False, frames=0):
  """Sample codes.

  Args:
    model: `model.Hourglass`.
    params: its parameters.
    keys: [b] keys; sample i depends on key i alone, never on its neighbours.
    condition: `Condition` [b].
    settings: `Settings`.
    guided: compile for classifier-free guidance (twice the work a step).
    frames: how many states to remember; all steps are one more.

  Returns:
    (codes int32 [b, h, w], info). info: `steps` int32 [b], how many each
    sample took; `stopped` bool [b], whether it finished by itself; with frames
    also `history` int32 [b, t, h, w], the codes before the first step and
    after it, after the second, ..., the last ones repeated.
  """

  def predict(codes):
    label = condition.label
    if not guided:
      return model.apply(params, codes, label)
    null = jnp.full_like(label, model.num_classes)
    twice = jnp.concatenate([codes, codes])
    logits = model.apply(params, twice, jnp.concatenate([label, null]))
    labelled, null = jnp.split(logits, 2)
    return null + settings.guidance * (labelled - null)

  def body(carry):
    n = carry.step
    last = n >= settings.steps  # the step of `argmax`
    temperature = schedule(settings.temperature, n, settings.steps)
    proportion = schedule(settings.proportion, n, settings.steps)
    temperature = jnp.where(last, 0.0, temperature)
    proportion = jnp.where(last, 1.0, proportion)
    step_keys = jax.vmap(lambda key: jax.random.split(_at(key, n + 1)))(keys)
    logits = predict(carry.codes)  # [b, h, w, v]
    drawn = logits_lib.draw(
      step_keys[:, 0], logits, temperature, settings.top_k, settings.top_p
    )  # [b, h, w]
    new = (drawn != carry.codes) & ~condition.keep  # [b, h, w]
    accepted = _accepted(
      step_keys[:, 1], logits, drawn, new, proportion, settings
    )
    active = ~carry.stopped
    changes = accepted & active[:, None, None]
    codes = jnp.where(changes, drawn, carry.codes)
    going = jnp.where(settings.agreed, new, changes)
    still = ~jnp.any(going, axis=(1, 2))
    history = carry.history
    if frames:
      history = history.at[n + 1].set(codes, mode="drop")
    return _Carry(
      step=n + 1,
      codes=codes,
      stopped=carry.stopped | (still & (n >= settings.min_steps) & ~last),
      steps=carry.steps + active,
      history=history,
    )

  total = settings.steps + settings.argmax
  start = _start(keys, condition, model.num_codes)
  history = jnp.zeros((frames, *start.shape), jnp.int32)
  carry = jax.lax.while_loop(
    lambda carry: (carry.step < total) & ~jnp.all(carry.stopped),
    body,
    _Carry(
      step=jnp.zeros((), jnp.int32),
      codes=start,
      stopped=jnp.all(condition.keep, axis=(1, 2)),  # nothing to draw
      steps=jnp.zeros(start.shape[:1], jnp.int32),
      history=history.at[:1].set(start),
    ),
  )
  info = {"steps": carry.steps, "stopped": carry.stopped}
  if frames:
    seen = jnp.arange(frames)[:, None, None, None] <= carry.step
    history = jnp.where(seen, carry.history, carry.codes)
    info["history"] = rearrange(history, "t b h w -> b t h w")
  return carry.codes, info


def _start(keys, condition, num_codes):
  """Return uniform codes where none are kept."""
  shape = condition.codes.shape[1:]
  uniform = lambda key: jax.random.randint(_at(key, 0), shape, 0, num_codes)
  noise = jax.vmap(uniform)(keys)
  return jnp.where(condition.keep, condition.codes, noise)


def _accepted(keys, logits, drawn, new, proportion, settings):
  """Say which drawn codes to take, bool [b, h, w], of those that are `new`."""

  def by_chance():
    chance = jax.vmap(lambda key: jax.random.uniform(key, new.shape[1:]))
    return chance(keys) < proportion

  def by_confidence():
    noise = jax.vmap(lambda key: jax.random.gumbel(key, new.shape[1:]))(keys)
    score = -logits_lib.cross_entropy(logits, drawn)  # [b, h, w]
    score += settings.confidence_noise * noise
    score = jnp.where(new, score, -jnp.inf)
    flat = rearrange(score, "b h w -> b (h w)")
    rank = jnp.argsort(jnp.argsort(flat, axis=-1, descending=True), axis=-1)
    num = jnp.sum(new, axis=(1, 2))[:, None]
    # The 0.5 rounds: a half of five is three.
    count = jnp.maximum(jnp.floor(proportion * num + 0.5), proportion > 0)
    return (rank < count).reshape(new.shape)

  chosen = jax.lax.cond(settings.confident, by_confidence, by_chance)
  return chosen & new


def _at(key, step):
  return jax.random.fold_in(key, step)
