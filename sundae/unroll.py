"""The loss over unrolled denoising, whose memory does not grow with unrolls.

The model denoises corrupted codes, its draws are denoised again, and so on;
the loss is the mean of the cross-entropies, and no gradient passes through the
draws (Savinov et al. 2021, sec. 2.3). So each unroll's gradient is finished
before the next begins: what is kept is one gradient and the drawn codes.

Shapes: b batch, h w rows and columns of codes, v codes of the vocabulary, t
unrolls.
"""

import jax
import jax.numpy as jnp

from layers import logits as logits_lib


def loss(apply, params, clean, corrupted, key, num):
  """Return (sum of nats over unrolls [], metrics), differentiable by params.

  Args:
    apply: (params, codes int32 [b, h, w]) -> logits [b, h, w, v].
    params: differentiated.
    clean: int32 [b, h, w], the targets at every place.
    corrupted: int32 [b, h, w], what the first unroll sees.
    key: of the draws between unrolls.
    num: t.

  Returns:
    The total, and nats and rights of each unroll summed over places, float32
    [t].
  """

  def one(params, codes):
    logits = apply(params, codes)
    total = jnp.sum(logits_lib.cross_entropy(logits, clean))
    return total, logits

  def finish(key, total, logits):
    """Draw what the next unroll sees; count what this one got right."""
    right = jnp.sum(jnp.argmax(logits, axis=-1) == clean, dtype=jnp.float32)
    drawn = jax.random.categorical(key, logits).astype(clean.dtype)
    return drawn, (total, right)

  keys = jax.random.split(key, num)

  @jax.custom_vjp
  def unrolled(params):
    def body(codes, key):
      return finish(key, *one(params, codes))

    _, (totals, right) = jax.lax.scan(body, corrupted, keys)
    return jnp.sum(totals), (totals, right)

  def forward(params):
    """Do the same and add up the gradients on the way."""

    def body(carry, key):
      codes, grads = carry
      (total, logits), fresh = jax.value_and_grad(one, has_aux=True)(
        params, codes
      )
      codes, counted = finish(key, total, logits)
      return (codes, jax.tree.map(jnp.add, grads, fresh)), counted

    start = corrupted, jax.tree.map(jnp.zeros_like, params)
    (_, grads), (totals, right) = jax.lax.scan(body, start, keys)
    return (jnp.sum(totals), (totals, right)), grads

  def backward(grads, cotangents):
    scale, _ = cotangents
    return (jax.tree.map(lambda g: scale.astype(g.dtype) * g, grads),)

  unrolled.defvjp(forward, backward)
  return unrolled(params)
