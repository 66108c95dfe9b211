"""Quantizers: choice of codes, gradients, losses, inverses."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from tests import shared
from vqgan import codebook, quantizer

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
  book = jax.random.normal(jax.random.key(1), (23, 5))
  squares = np.sum((np.asarray(Z)[..., None, :] - book) ** 2, -1)
  for piece in (4, 7, 23, 100):
    monkeypatch.setattr(quantizer, "_PIECE", piece)
    codes = quantizer.nearest(Z, book)
    np.testing.assert_array_equal(codes, squares.argmin(-1))


def test_ties_go_to_the_lowest_code_also_across_pieces(monkeypatch):
  monkeypatch.setattr(quantizer, "_PIECE", 3)
  book = jnp.ones((9, 5)).at[0].set(5.0)
  assert (quantizer.nearest(Z, book) == 1).all()


def test_distances_are_float32_under_bfloat16():
  book = jnp.asarray([[1.0], [1.001]], jnp.float32)
  z = jnp.asarray([[1.0]], jnp.bfloat16)
  assert quantizer.nearest(z, book) == 0
  assert quantizer.nearest(jnp.asarray([[1.0008]]), book) == 1


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


def test_moving_averages_commit_by_beta_in_either_form():
  modules = [
    quantizer.Nearest(8, 5, average=True, legacy=legacy)
    for legacy in (False, True)
  ]
  params = _spread(modules[0])
  found = [module.apply({"params": params}, Z) for module in modules]
  for quantized in found:
    np.testing.assert_allclose(
      quantized.loss, 0.25 * quantized.terms["commitment"], rtol=1e-6
    )


def test_unit_codes_depend_on_direction_only():
  module = quantizer.Nearest(16, 5, unit=True)
  params = _spread(module)
  output = module.apply({"params": params}, Z)
  longer = module.apply({"params": params}, 3.0 * Z)
  np.testing.assert_array_equal(output.codes, longer.codes)
  np.testing.assert_allclose(jnp.linalg.norm(output.z, axis=-1), 1, rtol=1e-5)


def test_unit_gradients_pass_straight_to_the_direction():
  module = quantizer.Nearest(8, 5, unit=True)
  params = _spread(module)
  weights = jax.random.normal(jax.random.key(9), Z.shape)
  apply = lambda z: module.apply({"params": params}, z).z
  gradient = jax.grad(lambda z: jnp.sum(apply(z) * weights))(Z)
  length = jnp.linalg.norm(Z, axis=-1, keepdims=True)
  direction = Z / length
  along = jnp.sum(weights * direction, -1, keepdims=True) * direction
  np.testing.assert_allclose(
    gradient, (weights - along) / length, rtol=1e-4, atol=1e-5
  )


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
  params = codebook.seed(
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
  assert codebook.usage(codebook.count(output.codes, 60))["used"] == 60
  embed = module.apply({}, output.codes, method="embed")
  np.testing.assert_allclose(output.z, embed, atol=1e-6)
  gradient = jax.grad(lambda z: module.apply({}, z).z.sum())(0.1 * wide)
  assert (gradient > 0).all()


def test_finite_values_and_gradients_are_those_worked_out_by_hand():
  # Three levels: tanh(z) 1.001, rounded. Four: tanh(z + atanh(0.5 / 1.5015))
  # 1.5015 - 0.5, rounded and halved: at 0.5 that is 0.535.
  z = jnp.asarray([[0.0, 0.0], [0.54, 0.5], [0.56, -0.5], [-2.0, -3.0]])
  values = [[0, 0], [0, 0.5], [1, -0.5], [-1, -1]]
  digits = np.asarray([[1, 2], [1, 3], [2, 1], [0, 0]])
  module = quantizer.Finite((3, 4))
  found = module.apply({}, z.reshape(1, 2, 2, 2))
  np.testing.assert_allclose(found.z.reshape(4, 2), values, atol=1e-6)
  np.testing.assert_array_equal(found.codes.ravel(), digits @ [1, 3])
  gradient = jax.grad(lambda z: module.apply({}, z).z.sum())(z[None, None])
  shift = np.asarray([0, np.arctanh(0.5 / 1.5015)])
  expected = (1 - np.tanh(z + shift) ** 2) * [1.001, 1.5015 / 2]
  np.testing.assert_allclose(gradient[0, 0], expected, rtol=1e-4)
