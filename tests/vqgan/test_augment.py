"""DiffAugment: per-row draws, what each transformation keeps, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqgan import augment

ONES = jnp.ones((6, 16, 24, 3))


def test_every_row_is_drawn_on_its_own_and_by_its_key():
  images = jnp.broadcast_to(
    jax.random.normal(jax.random.key(0), (16, 24, 3)), ONES.shape
  )
  run = lambda seed: augment.augment(
    jax.random.key(seed), images, augment.POLICIES
  )
  assert len(np.unique(np.asarray(run(0)).reshape(6, -1), axis=0)) == 6
  np.testing.assert_array_equal(run(0), run(0))
  assert (run(0) != run(1)).any()


def test_translation_moves_by_at_most_an_eighth():
  moved = augment.augment(jax.random.key(0), ONES, ("translation",))
  kept = np.asarray(moved).sum((1, 2, 3)) / (16 * 24 * 3)
  assert (kept >= (1 - 1 / 8) ** 2 - 1e-6).all() and (kept < 1).any()


def test_cutout_blanks_at_most_a_quarter():
  cut = np.asarray(augment.augment(jax.random.key(1), ONES, ("cutout",)))
  blank = (cut == 0).mean((1, 2, 3))
  assert (blank > 0).all() and blank.max() <= 0.25


def test_gradients_reach_the_images():
  gradient = jax.grad(
    lambda x: augment.augment(jax.random.key(0), x, augment.POLICIES).sum()
  )(ONES)
  assert jnp.isfinite(gradient).all() and (gradient != 0).any((1, 2, 3)).all()


def test_unknown_names_are_listed():
  with pytest.raises(ValueError, match='"blur": choose from color, trans'):
    augment.augment(jax.random.key(0), ONES, ("blur",))
