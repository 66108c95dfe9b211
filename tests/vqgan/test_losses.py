"""Losses: values at known points, and the weight against full gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import shared
from vqgan import losses


def test_undecided_discriminator_loses_one_and_ln_two():
  zero = jnp.zeros((2, 3, 3))
  np.testing.assert_allclose(losses.discriminator("hinge", zero, zero), 1.0)
  np.testing.assert_allclose(
    losses.discriminator("vanilla", zero, zero), np.log(2), rtol=1e-6
  )
  with pytest.raises(ValueError, match=r'"wasserstein".*hinge, vanilla'):
    losses.discriminator("wasserstein", zero, zero)


def test_pixel_losses_are_means_of_errors():
  image, target = jnp.zeros((1, 2, 2, 3)), jnp.full((1, 2, 2, 3), 0.5)
  assert losses.pixel("l1", image, target) == 0.5
  assert losses.pixel("l2", image, target) == 0.25
  with pytest.raises(ValueError, match=r'"huber".*l1, l2'):
    losses.pixel("huber", image, target)


def test_discriminator_prefers_large_logits_for_real_images():
  real, made = jnp.full((1, 2, 2), 2.0), jnp.full((1, 2, 2), -2.0)
  for name in losses.DISCRIMINATOR_LOSSES:
    right = losses.discriminator(name, real, made)
    assert right < losses.discriminator(name, made, real)
  assert losses.generator(made) == 2.0


def test_segmentation_loss_equals_the_reference():
  golden = np.load(shared.shared_dir("golden", "taming", "seg_loss.npz"))
  pred, target = (
    golden[name].transpose(0, 2, 3, 1) for name in ("pred", "target")
  )
  entropy = losses.binary_cross_entropy(pred, target).mean()
  np.testing.assert_allclose(entropy, golden["bce"], rtol=1e-5)
  loss = entropy + golden["codebook_weight"] * golden["qloss"]
  np.testing.assert_allclose(loss, golden["loss"], rtol=1e-5)


def test_adaptive_weight_equals_the_ratio_of_full_gradients():
  features = jax.random.normal(jax.random.key(0), (2, 6, 5, 4))
  target = jax.random.normal(jax.random.key(1), (2, 6, 5, 3))
  conv = nn.Conv(3, (3, 3), padding="SAME")
  params = conv.init(jax.random.key(2), features)["params"]

  def norm(loss):
    gradient = jax.grad(
      lambda kernel: loss(
        conv.apply({"params": {**params, "kernel": kernel}}, features)
      )
    )(params["kernel"])
    return jnp.linalg.norm(gradient)

  rec = lambda image: jnp.mean(jnp.abs(image - target))
  adv = lambda image: jnp.mean(jnp.sin(3 * image))
  image = conv.apply({"params": params}, features)
  weight = losses.adaptive_weight(
    features, (3, 3), jax.grad(rec)(image), jax.grad(adv)(image)
  )
  expected = norm(rec) / (norm(adv) + 1e-4)
  np.testing.assert_allclose(weight, expected, rtol=1e-5)
  zero = jnp.zeros_like(image)
  no_adversary = losses.adaptive_weight(features, (3, 3), 1e3 + zero, zero)
  assert no_adversary == 1e4


def test_adaptive_weight_needs_no_second_backward_pass():
  shape = (1, 16, 16, 8)
  flops = (
    jax.jit(losses.adaptive_weight, static_argnums=1)
    .lower(
      jax.ShapeDtypeStruct(shape, jnp.float32),
      (3, 3),
      *[jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)] * 2,
    )
    .compile()
    .cost_analysis()["flops"]
  )
  one_layer = 2 * 16 * 16 * 9 * 8 * 3
  assert flops < 2.2 * one_layer


def test_gradient_penalty_of_a_linear_critic_is_its_slope_squared():
  slope = jax.random.normal(jax.random.key(0), (4, 4, 3))
  images = jax.random.normal(jax.random.key(1), (5, 4, 4, 3))
  critic = lambda x: jnp.einsum("bhwc,hwc->b", x, slope)
  penalty = losses.gradient_penalty(critic, images)
  np.testing.assert_allclose(penalty, jnp.sum(slope**2), rtol=1e-5)


def test_lecam_pulls_only_logits_beyond_the_other_average():
  one = jnp.ones((1, 2, 2))
  assert losses.lecam(one, -one, 2.0, 2.0) == 9.0
  assert losses.lecam(-one, one, 0.0, 0.0) == 0.0
