"""Attention in pieces of its queries: the same numbers in less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers import attention, transformer

_LENGTH = 13


def _inputs():
  return jax.random.normal(jax.random.key(0), (3, 2, _LENGTH, 2, 4))


def _mask(shape):
  seen = jax.random.bernoulli(jax.random.key(1), 0.5, shape)
  return seen.at[..., 0].set(True)  # a query sees one key at least


MASKS = {
  "none": None,
  "causal": attention.causal_mask(_LENGTH),
  "of keys": _mask((2, 1, 1, _LENGTH)),
  "of examples": _mask((2, 1, _LENGTH, _LENGTH)),
  "of heads": _mask((2, 2, _LENGTH, _LENGTH)),
  "of two axes": _mask((_LENGTH, _LENGTH)),
  "of one axis": _mask((_LENGTH,)),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("size", [1, 4, 12, 13])
def test_pieces_equal_attention_at_once(name, size, monkeypatch):
  q, k, v = _inputs()
  whole = attention.attend(q, k, v, MASKS[name])
  seen, attend = [], attention.attend

  def spy(q, k, v, mask):
    seen.append((q.shape[1], k.shape[1]))
    return attend(q, k, v, mask)

  monkeypatch.setattr(attention, "attend", spy)
  found = attention.attend_in_pieces(q, k, v, MASKS[name], size)
  np.testing.assert_allclose(found, whole, rtol=0, atol=1e-6)
  # What bounds the memory; keys are never padded.
  assert seen and all(num <= size and of == _LENGTH for num, of in seen)


@pytest.mark.parametrize("name", ["none", "causal"])
def test_gradients_of_pieces_are_those_at_once(name):
  weights = jax.random.normal(jax.random.key(1), (2, _LENGTH, 2, 4))
  ways = (
    lambda x: attention.attend(*x, MASKS[name]),
    lambda x: attention.attend_in_pieces(*x, MASKS[name], 4),
  )
  whole, found = (
    jax.grad(lambda x, way=way: jnp.sum(weights * way(x)))(_inputs())
    for way in ways
  )
  np.testing.assert_allclose(found, whole, atol=1e-5)


def test_pieces_keep_no_weights_for_the_backward_pass():
  shape = jax.ShapeDtypeStruct((1, 1024, 2, 8), jnp.float32)

  def temporary(implementation):
    loss = lambda *x: attention.attend(*x, None, implementation).sum()
    program = jax.jit(jax.grad(loss, (0, 1, 2))).lower(shape, shape, shape)
    return program.compile().memory_analysis().temp_size_in_bytes

  weights = 2 * 1024 * 1024 * 4
  assert temporary("xla") > weights
  assert temporary("pieces") < 0.7 * weights


def test_a_transformer_takes_its_shape_s_implementation():
  x = jax.random.normal(jax.random.key(0), (1, 300, 8))
  make = lambda name: transformer.make_attention(
    transformer.Shape(8, 2, implementation=name)
  )
  params = make("xla").init(jax.random.key(1), x)
  run = lambda name: make(name).apply(params, x)[0]
  text = lambda name: str(jax.make_jaxpr(lambda: run(name))())
  np.testing.assert_allclose(run("pieces"), run("xla"), atol=1e-6)
  assert "scan" in text("pieces") and "scan" not in text("xla")
  with pytest.raises(ValueError, match='choose "xla", "pieces" or "cudnn"'):
    run("flash")
