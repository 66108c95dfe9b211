"""Gumbel's quantizer: divergence, gradient, temperature, restarted codes."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.vqgan import tiny
from training import metrics
from vqgan import codebook, quantizer

KEY = jax.random.key(5)
Z = jax.random.normal(jax.random.key(7), (2, 3, 4, 5))


def _init(module):
  return module.init({"params": jax.random.key(0), "gumbel": KEY}, Z)["params"]


@pytest.mark.parametrize("weight", [5e-4, 0.2])
@pytest.mark.parametrize(("bias", "expected"), [(0.0, 0.0), (50.0, np.log(8))])
def test_divergence_is_zero_of_uniform_codes_and_ln_v_of_certain_ones(
  bias, expected, weight
):
  module = quantizer.Gumbel(8, 5, kl_weight=weight)
  logits = {"kernel": jnp.zeros((5, 8)), "bias": jnp.zeros(8).at[2].set(bias)}
  found = module.apply({"params": {**_init(module), "logits": logits}}, Z)
  np.testing.assert_allclose(found.terms["kl"], expected, atol=1e-5)
  np.testing.assert_allclose(found.loss, weight * expected, atol=1e-5)


def test_its_gradient_is_that_of_the_soft_mixture():
  module = quantizer.Gumbel(8, 5)
  params, temperature = _init(module), 0.6
  weights = jax.random.normal(jax.random.key(9), Z.shape)
  draw = lambda module: jax.random.gumbel(
    module.make_rng("gumbel"), (*Z.shape[:3], 8)
  )
  noise = nn.apply(draw, module)({"params": params}, rngs={"gumbel": KEY})

  def ours(params, z):
    found = module.apply(
      {"params": params},
      z,
      train=True,
      temperature=temperature,
      rngs={"gumbel": KEY},
    )
    return jnp.sum(weights * found.z)

  def logits(params, z):
    return z @ params["logits"]["kernel"] + params["logits"]["bias"] + noise

  def soft(params, z):
    mixture = jax.nn.softmax(logits(params, z) / temperature)
    return jnp.sum(weights * (mixture @ params["codebook"]))

  found = jax.grad(ours, argnums=(0, 1))(params, Z)
  expected = jax.grad(soft, argnums=(0, 1))(params, Z)
  close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)
  close(found[1], expected[1])
  jax.tree.map(close, found[0]["logits"], expected[0]["logits"])
  assert np.abs(expected[1]).max() > 0.1
  # A code learns where it is drawn, and nowhere else.
  drawn = np.asarray(logits(params, Z)).argmax(-1).ravel()
  sums = np.zeros((8, 5))
  np.add.at(sums, drawn, np.asarray(weights).reshape(-1, 5))
  close(found[0]["codebook"], sums)


def test_a_step_takes_the_temperature_of_its_own_number(monkeypatch):
  made = tiny.make_task(
    critic=None, quantizer=quantizer.Gumbel(16, 3), temperature=(0.8, 0.1, 50)
  )
  state, batch = tiny.make_state(made), tiny.make_batch(made)
  asked, used, original = [], [], quantizer.temperature

  def temperature(step, *schedule):
    found = original(step, *schedule)
    jax.debug.callback(lambda *x: asked.append(x), step, found)
    assert schedule == (0.8, 0.1, 50)
    return found

  class Spy(quantizer.Gumbel):
    def __call__(self, z, *, train=False, temperature=None):
      if temperature is not None:
        jax.debug.callback(lambda x: used.append(float(x)), temperature)
      return super().__call__(z, train=train, temperature=temperature)

  monkeypatch.setattr(quantizer, "temperature", temperature)
  model = dataclasses.replace(made.model, quantizer=Spy(16, 3))
  made = dataclasses.replace(made, model=model)
  train_step = tiny.jit(made.train_step)
  for number in (7, 30):
    jax.block_until_ready(
      train_step(state.replace(step=jnp.int32(number)), batch, KEY)
    )
  jax.effects_barrier()
  assert {int(step) for step, _ in asked} == {7, 30}
  expected = [0.1 + 0.35 * (1 + np.cos(x / 50 * np.pi)) for x in (7, 30)]
  np.testing.assert_allclose(sorted({*used}), sorted(expected), rtol=1e-5)


def test_training_counts_the_codes_that_evaluation_uses():
  # Two codes are always the likeliest; of the others noise draws many.
  codes = quantizer.Gumbel(16, 3, kl_weight=0.0, dead_after=2, restart=False)
  made = tiny.make_task(critic=None, quantizer=codes, tx=optax.sgd(0.0))
  state, batch = tiny.make_state(made), tiny.make_batch(made)
  generator = state.params["generator"]
  kernel = jnp.zeros((3, 16)).at[0, 2].set(1e-2).at[0, 5].set(-1e-2)
  bias = jnp.zeros(16).at[jnp.array([2, 5])].set(1.0)
  logits = {"kernel": kernel, "bias": bias}
  given = {**generator["quantizer"], "logits": logits}
  generator = {**generator, "quantizer": given}
  state = state.replace(params={"generator": generator})
  counts = np.asarray(tiny.jit(made.count_codes)(state, batch))
  assert set(np.flatnonzero(counts)) <= {2, 5}
  drawn = tiny.jit(
    lambda z: codes.apply(
      {"params": given}, z, train=True, temperature=1.0, rngs={"gumbel": KEY}
    )
  )(Z[..., :3]).codes
  assert len(np.unique(drawn)) > 4
  train_step = tiny.jit(made.train_step)
  for expected in (0, 16 - np.count_nonzero(counts)):
    state, told = train_step(state, batch, KEY)
    told = metrics.values(told)
    usage = codebook.usage(jnp.asarray(counts))
    for name, value in usage.items():
      np.testing.assert_allclose(told[f"codes/{name}"], value, rtol=1e-5)
    assert told["codes/dead"] == expected


def test_codes_that_only_noise_draws_restart():
  codes = quantizer.Gumbel(16, 3, kl_weight=0.0, dead_after=2)
  made = tiny.make_task(critic=None, quantizer=codes, tx=optax.sgd(0.0))
  state, batch = tiny.make_state(made), tiny.make_batch(made)
  generator = state.params["generator"]
  logits = {
    "kernel": jnp.zeros((3, 16)),
    "bias": jnp.zeros(16).at[4].set(1.0),
  }
  given = {**generator["quantizer"], "logits": logits}
  state = state.replace(params={"generator": {**generator, "quantizer": given}})
  train_step, moved = tiny.jit(made.train_step), []
  for _ in range(2):
    old = state.params["generator"]["quantizer"]["codebook"]
    state, _ = train_step(state, batch, KEY)
    new = state.params["generator"]["quantizer"]["codebook"]
    moved.append(list(np.flatnonzero((old != new).any(1))))
  assert moved == [[], [x for x in range(16) if x != 4]]


def test_a_restarted_code_is_chosen_on_its_latent():
  module = quantizer.Gumbel(16, 5, dead_after=1)
  z = jax.random.normal(jax.random.key(1), (4, 8, 8, 5))
  params = codebook.seed(module, _init(module), z.reshape(-1, 5), KEY)
  state = codebook.initial_state(module, params)
  alive = jnp.arange(256).reshape(4, 8, 8) % 8  # the other half is dead
  seen = codebook.observe(module, z, alive, jax.random.key(2))
  after, _, _ = codebook.update(module, params, state, seen)
  latents = seen.candidates[8:].reshape(1, 1, 8, 5)
  chosen = module.apply({"params": after}, latents).z
  np.testing.assert_allclose(chosen, latents, atol=1e-6)
