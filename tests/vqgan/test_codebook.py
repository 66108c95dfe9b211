"""Codebooks: how they begin, follow the latents, restart, and are used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqgan import codebook, quantizer

Z = jax.random.normal(jax.random.key(7), (2, 3, 4, 5))


def _init(module, z=Z):
  keys = {"params": jax.random.key(0), "gumbel": jax.random.key(1)}
  return jax.jit(module.init)(keys, z).get("params", {})


def test_uniform_use_has_the_perplexity_of_its_size():
  usage = codebook.usage(jnp.full(64, 3.0), jnp.arange(64), 60)
  np.testing.assert_allclose(usage["perplexity"], 64, rtol=1e-5)
  assert usage["used"] == 64 and usage["dead"] == 4
  one = codebook.usage(codebook.count(jnp.zeros((2, 3), int), 64))
  np.testing.assert_allclose(one["perplexity"], 1, rtol=1e-5)
  assert one["used"] == 1 and "dead" not in one


def test_averaged_codes_follow_the_latents_that_chose_them():
  module = quantizer.Nearest(4, 5, average=True, decay=0.9, restart=False)
  params = {"codebook": jax.random.normal(jax.random.key(3), (4, 5))}
  state = codebook.initial_state(module, params)
  output = module.apply({"params": params}, Z)
  assert set(output.terms) == {"commitment"}
  seen = codebook.observe(module, Z, output.codes, jax.random.key(0))
  new, state, _ = codebook.update(module, params, state, seen)
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
  state = codebook.initial_state(module, params)
  codes = jnp.zeros(Z.shape[:3], jnp.int32).at[0, 0, 0].set(3)  # two alive
  latents = np.asarray(Z).reshape(-1, 5)
  for step in range(2):
    seen = codebook.observe(module, Z, codes, jax.random.key(step))
    new, state, smoothed = codebook.update(module, params, state, seen, params)
    moved = np.any(np.asarray(new["codebook"] != params["codebook"]), 1)
    if step == 0:
      assert not moved.any()
  assert list(np.flatnonzero(moved)) == [1, 2, 4, 5]
  for i in np.flatnonzero(moved):
    distance = np.abs(latents - np.asarray(new["codebook"][i])).max(1)
    assert distance.min() < 1e-6
  for i in (0, 3):
    np.testing.assert_array_equal(
      smoothed["codebook"][i], params["codebook"][i]
    )
  np.testing.assert_array_equal(smoothed["codebook"][1], new["codebook"][1])
  assert list(state["idle"]) == [0, 2, 2, 0, 2, 2]


@pytest.mark.parametrize("restart", [True, False])
def test_codes_that_nobody_uses_stay_dead_through_their_restarts(restart):
  module = quantizer.Nearest(4, 5, dead_after=3, restart=restart)
  params = _init(module)
  state = codebook.initial_state(module, params)
  codes = jnp.zeros(Z.shape[:3], jnp.int32)  # only the first is ever used
  dead, moved = [], []
  for step in range(8):
    seen = codebook.observe(module, Z, codes, jax.random.key(step))
    idle = codebook.idle_steps(state, seen)
    dead.append(int(codebook.usage(seen.counts, idle, 3)["dead"]))
    new, state, _ = codebook.update(module, params, state, seen)
    moved.append(bool((new["codebook"] != params["codebook"])[1:].any()))
    params = new
  assert dead == [0, 0, 3, 3, 3, 3, 3, 3]
  assert moved == [restart and step in (2, 5) for step in range(8)]


def test_an_averaged_code_stays_where_it_restarted():
  module = quantizer.Nearest(4, 5, average=True, decay=0.5, dead_after=2)
  params = _init(module)
  state = codebook.initial_state(module, params)
  codes = jnp.zeros(Z.shape[:3], jnp.int32)  # only the first is ever used
  places = []
  for step in range(4):
    seen = codebook.observe(module, Z, codes, jax.random.key(step))
    params, state, _ = codebook.update(module, params, state, seen)
    places.append(np.asarray(params["codebook"][1:]))
  # It restarts in the second step and in the fourth.
  assert (places[1] != places[0]).any(1).all()
  np.testing.assert_allclose(places[2], places[1], rtol=1e-5)
  assert (places[3] != places[2]).any(1).all()


def test_seeded_codes_are_all_used():
  z = jax.random.normal(jax.random.key(5), (4, 8, 8, 5))
  for module in (
    quantizer.Nearest(32, 5),
    quantizer.Nearest(32, 5, unit=True),
    quantizer.Gumbel(32, 5),
  ):
    params = codebook.seed(
      module, _init(module), z.reshape(-1, 5), jax.random.key(2)
    )
    codes = module.apply({"params": params}, z).codes
    assert codebook.usage(codebook.count(codes, 32))["used"] == 32


def test_seeds_fewer_than_codes_are_used_more_than_once():
  module = quantizer.Nearest(10, 5)
  latents = Z.reshape(-1, 5)[:4]
  params = codebook.seed(module, _init(module), latents, jax.random.key(2))
  assert len(np.unique(np.asarray(params["codebook"]), axis=0)) == 10


@pytest.mark.parametrize("total", [0, 1, 5, 6, 11, 12, 13, 50, 97, 1000])
def test_rows_are_taken_evenly_from_a_stream(total):
  rows = codebook.evenly((np.array([i]) for i in range(total)), 6).ravel()
  assert len(rows) == min(total, 6)
  if total <= 6:
    np.testing.assert_array_equal(rows, np.arange(total))
    return
  gaps = np.diff(rows)
  assert rows[0] == 0 and gaps.min() > 0
  assert gaps.max() <= 2 * gaps.min()
  # The rest after the last is not longer than two gaps.
  assert total - rows[-1] <= 2 * gaps.max()
