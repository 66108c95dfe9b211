"""Corruption: how often codes change, and at which rates."""

import jax
import jax.numpy as jnp
import numpy as np

from sundae import corruption

_corrupt = jax.jit(corruption.corrupt, static_argnums=2)
_replace = jax.jit(corruption.replace, static_argnums=4)


def test_half_of_the_replacements_that_can_change_do():
  num_codes = 3
  codes = jnp.zeros((4000, 8, 8), jnp.int32)
  noisy = _corrupt(jax.random.key(0), codes, num_codes)
  expected = 0.5 * (1 - 1 / num_codes)
  # The deviation of a sample's share is at most that of U(0, 1), 0.29.
  assert abs(np.mean(noisy != codes) - expected) < 4 * 0.29 / 4000**0.5


def test_rates_are_uniform_over_samples():
  codes = jnp.zeros((2000, 16, 16), jnp.int32)
  # With so many codes a replacement is seen nearly always.
  noisy = _corrupt(jax.random.key(1), codes, 10**6)
  shares = np.sort(np.mean(np.asarray(noisy != codes), axis=(1, 2)))
  uniform = (np.arange(2000) + 0.5) / 2000
  assert abs(shares - uniform).max() < 1.6 / 2000**0.5  # Kolmogorov-Smirnov


def test_replacements_are_uniform_over_codes():
  codes = jnp.zeros((500, 8, 8), jnp.int32)
  keys = jax.random.split(jax.random.key(2))
  noisy = _replace(*keys, codes, jnp.ones(500), 5)
  shares = np.bincount(np.asarray(noisy).ravel(), minlength=5) / codes.size
  np.testing.assert_allclose(shares, 0.2, atol=0.01)


def test_places_change_independently_of_each_other():
  codes = jnp.zeros((2000, 2, 2), jnp.int32)
  keys = jax.random.split(jax.random.key(3))
  noisy = _replace(*keys, codes, jnp.full(2000, 0.5), 10**6)
  changed = np.asarray(noisy != codes).reshape(2000, 4)
  assert abs(np.corrcoef(changed.T) - np.eye(4)).max() < 0.1
