"""Convolutions equal XLA's own, forward and backward."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import repeat

from benchmarks import convolution as benchmark
from layers import convolution


def _draw(*shape):
  return jnp.asarray(np.random.RandomState(sum(shape)).randn(*shape), "float32")


def _xla(x, kernel, strides, padding):
  return jax.lax.conv_general_dilated(
    x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


def _assert_agree(ours, theirs, x, kernel):
  """Compare values and gradients under a weight that tells outputs apart."""
  g = _draw(*theirs(x, kernel).shape)

  def both(function):
    value, backward = jax.vjp(function, x, kernel)
    return value, *backward(g)

  for a, b in zip(jax.jit(both, static_argnums=0)(ours), both(theirs)):
    assert a.shape == b.shape and a.dtype == b.dtype
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize(
  "size, window, strides, padding",
  [
    ((2, 8, 8), 3, (1, 1), "SAME"),
    ((3, 7, 5), 3, (1, 1), "VALID"),
    ((2, 8, 8), 3, (2, 2), ((0, 1), (0, 1))),
    ((2, 9, 7), 4, (2, 2), ((1, 1), (1, 1))),
    ((2, 8, 10), 4, (3, 2), "VALID"),  # columns that no window reaches
    ((1, 6, 6), 2, (1, 1), ((1, 0), (0, 1))),
    ((2, 40, 40), 3, (1, 1), "SAME"),  # more than one piece of rows
    ((1, 3, 2000), 3, (1, 1), "SAME"),  # a row is more than a piece
  ],
)
def test_gradients_are_those_of_xla(size, window, strides, padding):
  x, kernel = _draw(*size, 5), _draw(window, window, 5, 6)
  _assert_agree(
    lambda x, k: convolution.convolve(x, k, strides, padding),
    lambda x, k: _xla(x, k, strides, padding),
    x,
    kernel,
  )


@pytest.mark.parametrize("size", [(2, 4, 4), (1, 3, 7), (2, 1, 1)])
def test_doubled_is_the_convolution_of_repeated_pixels(size):
  _assert_agree(
    lambda x, k: convolution.convolve_doubled(x, k, (1, 1), "SAME"),
    lambda x, k: _xla(
      repeat(x, "b h w c -> b (h i) (w j) c", i=2, j=2), k, (1, 1), "SAME"
    ),
    _draw(*size, 5),
    _draw(3, 3, 5, 6),
  )


def test_half_precision_stays_half_and_sums_in_full():
  x = _draw(4, 32, 32, 3).astype(jnp.bfloat16)
  kernel = _draw(3, 3, 3, 4).astype(jnp.bfloat16)
  to_kernel = lambda function, dtype: jax.grad(
    lambda k: function(x.astype(dtype), k, (1, 1), "SAME").sum()
  )(kernel.astype(dtype))
  found = to_kernel(convolution.convolve, jnp.bfloat16)
  assert found.dtype == jnp.bfloat16
  expected = to_kernel(_xla, jnp.float32)
  error = np.abs(found.astype(jnp.float32) - expected).max()
  assert error < 0.01 * np.abs(expected).max()


def test_flax_layers_take_them():
  x = _draw(2, 8, 8, 3)
  build = lambda **options: nn.Conv(4, (3, 3), padding="SAME", **options)
  plain, ours = build(), build(conv_general_dilated=convolution.convolve)
  params = plain.init(jax.random.key(0), x)
  np.testing.assert_allclose(
    ours.apply(params, x), plain.apply(params, x), rtol=1e-5, atol=1e-5
  )


def test_gradients_of_gradients():
  x, kernel = _draw(1, 6, 6, 2), _draw(3, 3, 2, 3)

  def penalty(function):
    inner = lambda x, k: jnp.sum(jnp.tanh(function(x, k, (1, 1), "SAME")))
    return jax.grad(lambda k: jnp.sum(jax.grad(inner)(x, k) ** 2))(kernel)

  np.testing.assert_allclose(
    penalty(convolution.convolve), penalty(_xla), rtol=1e-4, atol=1e-4
  )


def test_what_is_not_there_is_refused():
  x, kernel = _draw(1, 8, 8, 4), _draw(3, 3, 4, 4)
  with pytest.raises(ValueError, match="dilated"):
    convolution.convolve(x, kernel, (1, 1), "SAME", rhs_dilation=(2, 2))
  with pytest.raises(ValueError, match="grouped"):
    convolution.convolve(x, kernel, (1, 1), "SAME", feature_group_count=2)
  layout = ("NCHW", "OIHW", "NCHW")
  with pytest.raises(ValueError, match="NHWC"):
    convolution.convolve(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
  with pytest.raises(ValueError, match="windows of 3"):
    convolution.convolve_doubled(x, kernel, (2, 2), "SAME")


def test_the_benchmark_compares_all_passes(capsys):
  arguments = ["--side=8", "--channels=2", "--batch=1", "--repeats=1"]
  assert benchmark.main(arguments) == 0
  found = json.loads(capsys.readouterr().out)
  for name in ("ours", "ours_doubled"):
    assert found[name]["forward_to_xla"] > 0
    assert found[name]["backward_to_xla"] > 0
