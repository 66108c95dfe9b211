"""Metrics merge exactly and say what is not finite."""

import jax.numpy as jnp
import numpy as np

from training import metrics


def test_means_merge_as_sums_over_counts():
  a = metrics.Mean.of(jnp.array([1.0, 2.0, 3.0]))
  b = metrics.Mean.of(jnp.array([10.0, 99.0]), jnp.array([True, False]))
  merged = metrics.merge([{"x": a, "y": 1.0}, {"x": b}, {"y": 2.0}])
  assert metrics.values(metrics.to_host(merged)) == {"x": 4.0, "y": 1.5}


def test_masked_values_may_be_anything():
  values = jnp.array([1.0, jnp.inf, jnp.nan])
  mean = metrics.Mean.of(values, jnp.array([True, False, False]))
  assert float(mean.value()) == 1.0


def test_weights_broadcast():
  mean = metrics.Mean.of(jnp.ones((2, 3)), jnp.array([[1.0], [0.5]]))
  assert float(mean.count) == 4.5


def test_what_counted_nothing_is_left_out():
  empty = metrics.Mean.of(jnp.ones(3), jnp.zeros(3))
  found = metrics.to_host({"empty": empty, "loss": jnp.float32(2)})
  assert metrics.values(found) == {"loss": 2.0}
  assert metrics.nonfinite(found) == []


def test_what_is_not_finite_is_named():
  found = {"a": jnp.nan, "b": metrics.Mean(jnp.inf, 1.0), "c": 1.0}
  assert metrics.nonfinite(metrics.to_host(found)) == ["a", "b"]
  assert not metrics.all_finite(found)
  assert metrics.all_finite({"c": 1.0 * jnp.ones(())})
  tree = {"i": jnp.arange(3), "f": np.array([1.0, np.nan])}
  assert not metrics.tree_all_finite(tree)
  assert metrics.tree_all_finite({"i": jnp.arange(3)})
