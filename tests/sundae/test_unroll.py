"""Unrolled denoising: its loss, its gradient, its memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers import logits as logits_lib
from sundae import unroll
from tests.sundae import golden, tiny

V = tiny.NUM_CODES


def _table(params, codes):
  """Logits of a model that is a table of what is seen and where."""
  return params["seen"][codes] + params["place"]


def _params(seed=0):
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  return {"seen": draw(V, V), "place": draw(4, 4, V)}


def _by_hand(params, clean, codes, keys):
  """Add up the losses of given inputs; nothing is drawn from params."""
  total, seen = 0.0, []
  for key in (keys[i] for i in range(len(keys))):
    seen.append(codes)
    logits = _table(params, codes)
    total += jnp.sum(logits_lib.cross_entropy(logits, clean))
    codes = jax.random.categorical(key, jax.lax.stop_gradient(logits))
  return total, seen


@pytest.mark.parametrize("num", [1, 3])
def test_loss_and_gradient_are_those_of_the_unrolls_one_by_one(num):
  params, key = _params(), jax.random.key(5)
  clean, corrupted = tiny.codes(6), tiny.codes(6, seed=1)
  run = lambda p: unroll.loss(_table, p, clean, corrupted, key, num)
  graded = lambda f: jax.jit(jax.value_and_grad(f, has_aux=True))
  (total, (nats, right)), grads = graded(run)(params)

  keys = jax.random.split(key, num)
  by_hand = lambda p: _by_hand(p, clean, corrupted, keys)
  (expected, seen), plain = graded(by_hand)(params)
  np.testing.assert_allclose(total, expected, rtol=1e-6)
  np.testing.assert_allclose(nats.sum(), expected, rtol=1e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), grads, plain
  )
  for codes, count in zip(seen, right):
    guess = jnp.argmax(_table(params, codes), axis=-1)
    assert int(jnp.sum(guess == clean)) == count


def test_loss_is_that_of_the_released_code(monkeypatch):
  # The fixture's second unroll sees the likeliest codes of the first.
  likeliest = lambda key, logits: jnp.argmax(logits, axis=-1)
  monkeypatch.setattr(jax.random, "categorical", likeliest)
  net, params, arrays = golden.load()
  label = jnp.asarray(arrays["classes"])
  clean, seen = (
    jnp.asarray(arrays[name], jnp.int32).reshape(2, 8, 8)
    for name in ("clean", "tokens")
  )
  apply = lambda params, codes: net.apply(params, codes, label)
  total, _ = unroll.loss(apply, params, clean, seen, jax.random.key(0), 2)
  np.testing.assert_allclose(total / (2 * clean.size), arrays["loss"], 1e-6)


def test_gradient_is_scaled_by_what_comes_after():
  params, key = _params(), jax.random.key(5)
  clean, corrupted = tiny.codes(2), tiny.codes(2, seed=1)
  run = lambda p, x: x * unroll.loss(_table, p, clean, corrupted, key, 2)[0]
  graded = jax.jit(jax.value_and_grad(run))
  (one, grads), (three, more) = (graded(params, x) for x in (1.0, 3.0))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(3 * a, b, rtol=1e-5), grads, more
  )
  # Without a gradient another loop runs, with the same result.
  plain = jax.jit(run)(params, 1.0)
  np.testing.assert_allclose([one, three], [plain, 3 * plain], rtol=1e-6)


def test_peak_memory_does_not_grow_with_the_unrolls():
  v, b, side = 512, 8, 16
  params = {"seen": jnp.zeros((v, v)), "place": jnp.zeros((side, side, v))}
  codes = jax.ShapeDtypeStruct((b, side, side), jnp.int32)
  used = {}
  for num in (2, 6):
    run = lambda p, clean, noisy, key, num=num: jax.grad(
      lambda p: unroll.loss(_table, p, clean, noisy, key, num)[0]
    )(p)
    lowered = jax.jit(run).lower(params, codes, codes, jax.random.key(0))
    compiled = lowered.compile()
    used[num] = compiled.memory_analysis().temp_size_in_bytes
    text = compiled.as_text()
    assert f"f32[{b},{side},{side},{v}]" in text
    for rows in (f"{b},{side},{side}", f"{b * side * side}"):
      assert f"f32[{num},{rows},{v}]" not in text
  assert used[6] <= 1.01 * used[2]
