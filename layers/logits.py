"""Logits: head, cross-entropy, restriction (temperature, top-k/p), draws."""

import flax.linen as nn
import jax
import jax.numpy as jnp

_EXCLUDED = -1e30


class Head(nn.Module):
  """Project to a vocabulary; the logits are float32 whatever the compute."""

  size: int
  use_bias: bool = True
  dtype: jnp.dtype = jnp.float32
  scale: float = 0.02

  @nn.compact
  def __call__(self, x):
    """Return logits [..., v] for x [..., d]."""
    kernel = self.param(
      "kernel", nn.initializers.normal(self.scale), (x.shape[-1], self.size)
    )
    logits = jnp.einsum(
      "...d,dv->...v",
      x.astype(self.dtype),
      kernel.astype(self.dtype),
      preferred_element_type=jnp.float32,
    )
    if self.use_bias:
      logits += self.param("bias", nn.initializers.zeros, (self.size,))
    return logits


def cross_entropy(logits, targets):
  """Return -log softmax(logits)[targets] in nats, float32.

  Args:
    logits: [..., v].
    targets: int [...], each in 0..v-1.
  """
  logits = logits.astype(jnp.float32)
  picked = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  return jax.nn.logsumexp(logits, axis=-1) - picked


def exclude(logits, legal):
  """Give the classes where `legal` (bool [..., v]) is False no mass."""
  return jnp.where(legal, logits, _EXCLUDED)


def restrict(logits, temperature=1.0, top_k=0, top_p=1.0):
  """Scale by 1 / temperature and keep the top-k and the top-p classes.

  All three may be traced: changing them compiles nothing anew.

  Args:
    logits: [..., v].
    temperature: >= 0; 0 leaves the largest logit alone with all mass.
    top_k: keep the k largest (ties with the k-th too); 0, or k >= v, keeps
      all.
    top_p: of what top_k keeps, keep the fewest classes whose mass reaches p
      (Holtzman et al. 2020, sec. 3.1); 1 keeps all.

  Returns:
    Float32 logits [..., v].
  """
  logits = logits.astype(jnp.float32)
  logits = logits / jnp.maximum(temperature, 1e-6)
  size = logits.shape[-1]
  top_k, top_p = jnp.asarray(top_k), jnp.asarray(top_p)

  def keep_largest(logits):
    ordered = jnp.sort(logits, axis=-1, descending=True)
    k = jnp.where(top_k > 0, jnp.minimum(top_k, size), size)
    kth = jnp.take(ordered, k - 1, axis=-1)[..., None]
    mass = jax.nn.softmax(exclude(ordered, ordered >= kth), axis=-1)
    before = jnp.cumsum(mass, axis=-1) - mass  # mass of all larger classes
    inside = (before < top_p) | (top_p >= 1.0)
    last = jnp.sum(inside, axis=-1, keepdims=True) - 1
    pth = jnp.take_along_axis(ordered, jnp.maximum(last, 0), axis=-1)
    return exclude(logits, logits >= jnp.maximum(kth, pth))

  needed = (top_k > 0) | (top_p < 1.0)
  return jax.lax.cond(needed, keep_largest, lambda x: x, logits)


def draw(keys, logits, temperature=1.0, top_k=0, top_p=1.0):
  """Draw one class per place, each row with a key of its own.

  Args:
    keys: [b] keys.
    logits: [b, ..., v].
    temperature: see `restrict`; 0 takes the largest logit.
    top_k: see `restrict`.
    top_p: see `restrict`.

  Returns:
    int32 [b, ...].
  """
  logits = restrict(logits, temperature, top_k, top_p)
  noise = jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[1:]))(keys)
  noise = jnp.where(jnp.asarray(temperature) > 0, noise, 0.0)
  return jnp.argmax(logits + noise, axis=-1).astype(jnp.int32)
