"""Sampling: equals recomputation, keeps given codes, obeys its settings."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers import logits as logits_lib
from tests import shared
from tests.vqgan import tiny, tiny_prior
from vqgan import decode

_CLASSES = {"num_classes": 3, "num_conditions": 5}
_BESIDE = (2, 0, 1, 3, 3, 1, 0, 2, 2, 1, 3, 0)


@functools.cache
def _setup(tokens=0, **changes):
  """Return (model, params, condition, label) for four samples."""
  model = tiny_prior.make(**changes)
  codes, condition, label = tiny_prior.inputs(model, 4, 12, tokens)
  params = tiny_prior.init(model, codes, condition, label)
  return model, params, condition, label


@functools.cache
def _classed(beside=(), prefixed=True):
  return _setup(4, beside=beside, prefixed=prefixed, **_CLASSES)


@functools.cache
def _sampler(guided=False, known=0, beside=(), prefixed=True):
  """Return a compiled sampler (keys, settings, label, given) of `_classed`."""
  model, params, condition, _ = _classed(beside, prefixed)

  def draw(keys, settings, label, given=None):
    return decode.sample(
      model,
      params,
      keys,
      12,
      settings,
      condition=condition[: keys.shape[0]],
      label=label,
      given=given,
      known=known,
      guided=guided,
    )

  return tiny.jit(draw)


def _keys(seed=0, num=4):
  key = jax.random.key(seed)
  return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(num))


def _recomputed(settings, guided=False, beside=(), prefixed=True):
  """Draw by running the whole sequence again for every code."""
  model, params, condition, label = _classed(beside, prefixed)
  keys, codes = _keys(), jnp.zeros((4, 12), jnp.int32)
  null = jnp.full_like(label, 3)
  run = tiny.jit(
    lambda codes, label: model.apply(params, codes, condition, label)
  )
  for t in range(12):
    logits = run(codes, label)[:, t]
    if guided:
      other = run(codes, null)[:, t]
      logits = other + settings.guidance * (logits - other)
    keys_t = jax.vmap(jax.random.fold_in, (0, None))(keys, t)
    code = logits_lib.draw(
      keys_t, logits, settings.temperature, settings.top_k, settings.top_p
    )
    codes = codes.at[:, t].set(code)
  return codes


@pytest.mark.parametrize(
  "numbers",
  [{"temperature": 0.0}, {}, {"temperature": 0.7, "top_k": 4, "top_p": 0.8}],
)
def test_cached_sampling_equals_recomputing(numbers):
  settings = decode.Settings.create(**numbers)
  drawn = _sampler()(_keys(), settings, _classed()[3])
  np.testing.assert_array_equal(drawn, _recomputed(settings))
  assert len(np.unique(drawn)) > 2


def test_guided_sampling_equals_recomputing_twice():
  settings = decode.Settings.create(temperature=0.0, guidance=2.5)
  drawn = _sampler(guided=True)(_keys(), settings, _classed()[3])
  np.testing.assert_array_equal(drawn, _recomputed(settings, guided=True))
  plain = _sampler()(_keys(), settings, _classed()[3])
  assert (np.asarray(drawn) != plain).any()


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("prefixed", [False, True])
def test_tokens_beside_the_codes_are_told_to_cached_samples(guided, prefixed):
  settings = decode.Settings.create(temperature=0.0, guidance=2.5)
  label = _classed()[3]
  sampler = functools.partial(_sampler, guided, prefixed=prefixed)
  drawn = sampler(beside=_BESIDE)(_keys(), settings, label)
  expected = _recomputed(settings, guided, _BESIDE, prefixed)
  np.testing.assert_array_equal(drawn, expected)
  other = sampler(beside=_BESIDE[::-1])(_keys(), settings, label)
  assert (np.asarray(drawn) != other).any()


def test_guidance_of_one_is_plain_sampling():
  settings = decode.Settings.create()
  label = _classed()[3]
  drawn = _sampler(guided=True)(_keys(), settings, label)
  np.testing.assert_array_equal(drawn, _sampler()(_keys(), settings, label))


def test_cache_grows_within_a_long_sequence(monkeypatch):
  settings, label = decode.Settings.create(0.5), _classed()[3]
  whole = _sampler()(_keys(), settings, label)
  assert decode._segments(0, 11) == [(0, 11)]
  monkeypatch.setattr(decode, "_SEGMENT", 5)
  assert decode._segments(0, 11) == [(0, 5), (5, 11)]
  grown = _sampler.__wrapped__()(_keys(), settings, label)
  np.testing.assert_array_equal(grown, whole)


def test_sample_does_not_depend_on_its_neighbours():
  settings, label = decode.Settings.create(), _classed()[3]
  drawn = _sampler()(_keys(), settings, label)
  others = jnp.where(jnp.arange(4) == 2, label, (label + 1) % 3)
  keys = _keys(seed=1).at[2].set(_keys()[2])
  among_others = np.asarray(_sampler()(keys, settings, others))
  np.testing.assert_array_equal(among_others[2], drawn[2])
  assert (among_others != drawn).any(axis=1).sum() == 3


def test_settings_compile_nothing_anew():
  sampler = _sampler()
  label = _classed()[3]
  sampler(_keys(), decode.Settings.create(), label)
  compiled = sampler._cache_size()
  sampler(_keys(1), decode.Settings.create(0.3, 5, 0.9, 2.0), label)
  assert sampler._cache_size() == compiled


def test_given_codes_are_kept_wherever_they_are():
  random = np.random.default_rng(3)
  codes = jnp.asarray(random.integers(0, 11, (4, 12)), jnp.int32)
  keep = jnp.asarray(random.random((4, 12)) < 0.4)
  given = decode.Given(codes, keep)
  settings, label = decode.Settings.create(), _classed()[3]
  drawn = np.asarray(_sampler()(_keys(), settings, label, given))
  np.testing.assert_array_equal(drawn[keep], np.asarray(codes)[keep])
  # What is drawn has read what is given before it.
  other = decode.Given((codes + 1) % 11, keep)
  moved = np.asarray(_sampler()(_keys(), settings, label, other)) != drawn
  assert moved[~np.asarray(keep)].any()
  # And codes that are not kept tell nothing.
  other = decode.Given(jnp.where(keep, codes, (codes + 1) % 11), keep)
  same = _sampler()(_keys(), settings, label, other)
  np.testing.assert_array_equal(same, drawn)


def test_completion_read_at_once_equals_one_by_one():
  known = 5
  random = np.random.default_rng(4)
  codes = jnp.asarray(random.integers(0, 11, (4, 12)), jnp.int32)
  keep = jnp.broadcast_to(jnp.arange(12) < known, (4, 12))
  settings, label = decode.Settings.create(), _classed()[3]
  given = decode.Given(codes, keep)
  one_by_one = _sampler()(_keys(), settings, label, given)
  at_once = _sampler(known=known)(_keys(), settings, label, given)
  np.testing.assert_array_equal(at_once, one_by_one)
  np.testing.assert_array_equal(at_once[:, :known], codes[:, :known])


def test_all_codes_known_are_returned():
  codes = jnp.arange(8, dtype=jnp.int32).reshape(2, 4)
  model, params, _, _ = _setup()
  given = decode.Given(codes, jnp.ones((2, 4), bool))
  settings = decode.Settings.create()
  drawn = decode.sample(
    model, params, _keys(num=2), 4, settings, given=given, known=4
  )
  np.testing.assert_array_equal(drawn, codes)


@pytest.mark.parametrize(
  ("name", "settings"),
  [
    ("topk10", {"top_k": 10}),
    ("hf_topk10_p1", {"top_k": 10, "top_p": 1.0}),
    ("hf_topk0_p09", {"top_p": 0.9}),
    ("hf_topk20_p05", {"top_k": 20, "top_p": 0.5}),
  ],
)
def test_restriction_is_the_authors(name, settings):
  reference = np.load(
    shared.shared_dir() / "golden/taming/sampling_filters.npz"
  )
  found = np.asarray(logits_lib.restrict(reference["logits"], **settings))
  kept = np.isfinite(reference[name])
  np.testing.assert_array_equal(found > -1e29, kept)
  np.testing.assert_allclose(found[kept], reference[name][kept], rtol=1e-6)


def test_top_p_counts_the_mass_that_top_k_leaves():
  logits = jnp.log(jnp.asarray([0.4, 0.3, 0.2, 0.1]))
  kept = lambda **settings: int(
    (logits_lib.restrict(logits, **settings) > -1e29).sum()
  )
  assert kept(top_p=0.5) == 2
  assert kept(top_k=2, top_p=0.5) == 1  # 0.4 is 0.57 of what is left


def test_top_k_beyond_the_vocabulary_keeps_all():
  logits = jnp.asarray([[0.0, 1.0, 2.0]])
  for k in (0, 3, 100):
    np.testing.assert_array_equal(logits_lib.restrict(logits, top_k=k), logits)


@pytest.mark.parametrize(
  ("numbers", "message"),
  [
    ({"temperature": -1.0}, "temperature -1.0 must be at least 0"),
    ({"temperature": float("nan")}, "temperature nan"),
    ({"top_k": -3}, "top_k -3"),
    ({"top_p": 0.0}, "top_p 0.0"),
    ({"top_p": 1.5}, "top_p 1.5"),
  ],
)
def test_settings_out_of_range_raise(numbers, message):
  with pytest.raises(ValueError, match=message):
    decode.Settings.create(**numbers)


def test_guidance_without_classes_raises():
  model, params, _, _ = _setup()
  with pytest.raises(ValueError, match="needs a prior with classes"):
    decode.sample(
      model, params, _keys(), 4, decode.Settings.create(), guided=True
    )


def test_half_precision_casts_matrices_alone():
  params = _setup()[1]
  halved = decode.halve(params, jnp.bfloat16)["params"]
  assert halved["head"]["kernel"].dtype == jnp.bfloat16
  assert halved["code_table"]["embedding"].dtype == jnp.bfloat16
  assert halved["norm"]["scale"].dtype == jnp.float32
