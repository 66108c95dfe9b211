"""Quantizers: choice, gradients, losses, and codebooks that stay alive."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import shared
from vqgan import quantizer

Z = jax.random.normal(jax.random.key(7), (2, 3, 4, 5))


def _init(module, z=Z):
  keys = {"params": jax.random.key(0), "gumbel": jax.random.key(1)}
  return jax.jit(module.init)(keys, z).get("params", {})


def _spread(module):
  """Parameters with codes on the scale of Z."""
  return {**_init(module), "codebook": _codebook(module)}


def _codebook(module):
  return jax.random.normal(jax.random.key(3), (module.num_codes, module.width))


def test_nearest_agrees_with_brute_force_in_pieces(monkeypatch):
  codebook = jax.random.normal(jax.random.key(1), (23, 5))
  squares = np.sum((np.asarray(Z)[..., None, :] - codebook) ** 2, -1)
  for piece in (4, 7, 23, 100):
    monkeypatch.setattr(quantizer, "_PIECE", piece)
    codes = quantizer.nearest(Z, codebook)
    np.testing.assert_array_equal(codes, squares.argmin(-1))


def test_ties_go_to_the_lowest_code_also_across_pieces(monkeypatch):
  monkeypatch.setattr(quantizer, "_PIECE", 3)
  codebook = jnp.ones((9, 5)).at[0].set(5.0)
  assert (quantizer.nearest(Z, codebook) == 1).all()


def test_distances_are_float32_under_bfloat16():
  codebook = jnp.asarray([[1.0], [1.001]], jnp.float32)
  z = jnp.asarray([[1.0]], jnp.bfloat16)
  assert quantizer.nearest(z, codebook) == 0
  assert quantizer.nearest(jnp.asarray([[1.0008]]), codebook) == 1


def test_gradients_pass_straight_through():
  module = quantizer.Nearest(8, 5)
  params = _spread(module)
  weights = jax.random.normal(jax.random.key(9), Z.shape)
  apply = lambda z: module.apply({"params": params}, z).z
  gradient = jax.grad(lambda z: jnp.sum(apply(z) * weights))(Z)
  np.testing.assert_allclose(gradient, weights, rtol=1e-6)
  chosen = np.asarray(params["codebook"])[
    module.apply({"params": params}, Z).codes
  ]
  np.testing.assert_allclose(apply(Z), chosen, atol=1e-6)


def test_legacy_and_correct_beta_agree_in_value_and_not_in_gradients():
  def loss(legacy, params, z):
    module = quantizer.Nearest(8, 5, legacy=legacy)
    return module.apply({"params": params}, z).loss

  params = _spread(quantizer.Nearest(8, 5))
  grad = jax.value_and_grad(loss, argnums=(1, 2))
  correct, (book, latents) = grad(False, params, Z)
  legacy, (legacy_book, legacy_latents) = grad(True, params, Z)
  np.testing.assert_allclose(correct, legacy, rtol=1e-6)
  np.testing.assert_allclose(4 * latents, legacy_latents, rtol=1e-5)
  np.testing.assert_allclose(
    book["codebook"], 4 * legacy_book["codebook"], rtol=1e-5
  )


def test_uniform_use_has_the_perplexity_of_its_size():
  usage = quantizer.usage(jnp.full(64, 3.0), jnp.arange(64), 60)
  np.testing.assert_allclose(usage["perplexity"], 64, rtol=1e-5)
  assert usage["used"] == 64 and usage["dead"] == 4
  one = quantizer.usage(quantizer.count(jnp.zeros((2, 3), int), 64))
  np.testing.assert_allclose(one["perplexity"], 1, rtol=1e-5)
  assert one["used"] == 1 and "dead" not in one


def test_averaged_codes_follow_the_latents_that_chose_them():
  module = quantizer.Nearest(4, 5, average=True, decay=0.9, restart=False)
  params = _spread(module)
  state = quantizer.initial_state(module, params)
  output = module.apply({"params": params}, Z)
  assert set(output.terms) == {"commitment"}
  seen = quantizer.observe(module, Z, output.codes, jax.random.key(0))
  new, state = quantizer.update(module, params, state, seen)
  flat, codes = np.asarray(Z).reshape(-1, 5), np.asarray(output.codes).ravel()
  for i in range(4):
    chose = flat[codes == i]
    sums = 0.9 * np.asarray(params["codebook"][i]) + 0.1 * chose.sum(0)
    expected = sums / (0.9 + 0.1 * len(chose))
    np.testing.assert_allclose(new["codebook"][i], expected, rtol=1e-4)


@pytest.mark.parametrize(
  "module",
  [
    quantizer.Nearest(6, 5, dead_after=2),
    quantizer.Nearest(6, 5, dead_after=2, average=True, decay=1.0),
    quantizer.Gumbel(6, 5, dead_after=2),
  ],
  ids=["nearest", "average", "gumbel"],
)
def test_dead_codes_restart_on_a_latent_and_live_ones_stay(module):
  params = _init(module)
  state = quantizer.initial_state(module, params)
  codes = jnp.zeros(Z.shape[:3], jnp.int32).at[0, 0, 0].set(3)  # two alive
  latents = np.asarray(Z).reshape(-1, 5)
  for step in range(2):
    seen = quantizer.observe(module, Z, codes, jax.random.key(step))
    new, state = quantizer.update(module, params, state, seen)
    moved = np.any(np.asarray(new["codebook"] != params["codebook"]), 1)
    if step == 0:
      assert not moved.any()
  assert list(np.flatnonzero(moved)) == [1, 2, 4, 5]
  for i in np.flatnonzero(moved):
    distance = np.abs(latents - np.asarray(new["codebook"][i])).max(1)
    assert distance.min() < 1e-6
  assert (state["idle"] == 0).all()


def test_seeded_codes_are_all_used():
  z = jax.random.normal(jax.random.key(5), (4, 8, 8, 5))
  for module in (
    quantizer.Nearest(32, 5),
    quantizer.Nearest(32, 5, unit=True),
    quantizer.Gumbel(32, 5),
  ):
    params = quantizer.seed(
      module, _init(module), z.reshape(-1, 5), jax.random.key(2)
    )
    codes = module.apply({"params": params}, z).codes
    assert quantizer.usage(quantizer.count(codes, 32))["used"] == 32


def test_seeds_fewer_than_codes_are_used_more_than_once():
  module = quantizer.Nearest(10, 5)
  latents = Z.reshape(-1, 5)[:4]
  params = quantizer.seed(module, _init(module), latents, jax.random.key(2))
  assert len(np.unique(np.asarray(params["codebook"]), axis=0)) == 10


def test_unit_codes_depend_on_direction_only():
  module = quantizer.Nearest(16, 5, unit=True)
  params = _spread(module)
  output = module.apply({"params": params}, Z)
  longer = module.apply({"params": params}, 3.0 * Z)
  np.testing.assert_array_equal(output.codes, longer.codes)
  np.testing.assert_allclose(jnp.linalg.norm(output.z, axis=-1), 1, rtol=1e-5)


def test_gumbel_draws_in_training_and_never_in_evaluation():
  module = quantizer.Gumbel(16, 5)
  params = {"params": _init(module)}
  draw = lambda i: module.apply(
    params, Z, train=True, temperature=1.0, rngs={"gumbel": jax.random.key(i)}
  )
  assert (draw(0).codes != draw(1).codes).any()
  fixed = module.apply(params, Z)
  np.testing.assert_array_equal(fixed.codes, module.apply(params, Z).codes)
  embed = module.apply(params, fixed.codes, method="embed")
  np.testing.assert_array_equal(fixed.z, embed)
  drawn = draw(0)
  embed = module.apply(params, drawn.codes, method="embed")
  np.testing.assert_allclose(drawn.z, embed, atol=1e-5)


def test_gumbel_on_data_chooses_the_nearest_code():
  module = quantizer.Gumbel(16, 5)
  params = quantizer.seed(
    module, _init(module), Z.reshape(-1, 5), jax.random.key(2)
  )
  codes = module.apply({"params": params}, Z).codes
  expected = quantizer.nearest(Z, params["codebook"])
  np.testing.assert_array_equal(codes, expected)


def test_gumbel_temperature_follows_the_reference():
  path = shared.shared_dir("golden", "taming", "schedules.json")
  schedule = json.loads(path.read_text())["gumbel_temperature"]
  for step, expected in schedule.items():
    value = quantizer.temperature(int(step))
    np.testing.assert_allclose(value, expected, rtol=1e-4)


def test_finite_codes_invert_and_pass_gradients():
  module = quantizer.Finite((4, 5, 3))
  assert module.num_codes == 60 and module.width == 3
  codes = jnp.arange(60).reshape(1, 6, 10)
  z = module.apply({}, codes, method="embed")
  assert len(np.unique(np.asarray(z).reshape(60, 3), axis=0)) == 60
  # tanh saturates: stretch, so that the outermost values are reached.
  wide = jax.random.normal(jax.random.key(0), (8, 16, 16, 3)) * 3
  output = module.apply({}, wide)
  assert quantizer.usage(quantizer.count(output.codes, 60))["used"] == 60
  embed = module.apply({}, output.codes, method="embed")
  np.testing.assert_allclose(output.z, embed, atol=1e-6)
  gradient = jax.grad(lambda z: module.apply({}, z).z.sum())(0.1 * wide)
  assert (gradient > 0).all()
