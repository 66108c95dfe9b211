"""Rejection keeps each sample's best draw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqgan import rejection


def _draw(keys):
  return jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys)


def _score(x):
  return x[:, 0]


def test_each_sample_keeps_the_best_of_its_own_draws():
  keys = jax.random.split(jax.random.key(0), 3)
  found, scores = rejection.best(_draw, _score, keys, 0.25)
  others = [_draw(keys)] + [
    _draw(jax.vmap(lambda key, i=i: jax.random.fold_in(key, i))(keys))
    for i in range(1, 4)
  ]
  all_draws = np.stack(others)  # [4, 3, 2]
  chosen = all_draws[..., 0].argmax(0)
  np.testing.assert_array_equal(found, all_draws[chosen, np.arange(3)])
  np.testing.assert_array_equal(scores, all_draws[..., 0].max(0))
  assert len(set(chosen.tolist())) > 1
  plain, _ = rejection.best(_draw, _score, keys, 1.0)
  np.testing.assert_array_equal(plain, _draw(keys))


def test_rate_out_of_range_raises():
  with pytest.raises(ValueError, match="acceptance rate 0"):
    rejection.best(_draw, _score, None, 0)


def test_draw_whose_score_is_no_number_loses_to_any_other():
  keys = jax.random.split(jax.random.key(0), 3)
  first = np.asarray(_draw(keys))
  score = lambda x: jnp.where(jnp.isin(x, first).any(1), jnp.nan, _score(x))
  found, scores = rejection.best(_draw, score, keys, 0.25)
  assert np.isfinite(scores).all()
  assert (np.asarray(found) != first).any(1).all()
