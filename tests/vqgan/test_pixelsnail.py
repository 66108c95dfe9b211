"""PixelSNAIL: who sees what, sampling, what it is told."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.vqgan import tiny, tiny_prior
from vqgan import decode, pixelsnail, prior

_GRID = (3, 4)
_BESIDE = (2, 0, 1, 1, 0, 2, 2, 1, 0, 0, 1, 2)  # which of three tokens


def _make(**changes):
  fields = {"num_codes": 7, "grid": _GRID, "blocks": 2, "residuals": 1}
  return pixelsnail.PixelSNAIL(
    **{**fields, "width": 8, "heads": 2, "key_width": 2, **changes}
  )


@functools.cache
def _setup():
  """Return (model, params, condition, label, run) with all there is."""
  model = _make(num_conditions=5, num_classes=3, beside=_BESIDE)
  random = np.random.default_rng(0)
  condition = jnp.asarray(random.integers(0, 5, (1, 3)), jnp.int32)
  label = jnp.ones(1, jnp.int32)
  codes = jnp.zeros((1, 12), jnp.int32)
  params = tiny_prior.init(model, codes, condition, label)
  return model, params, condition, label, tiny.jit(model.apply)


def _repeated(x, count):
  return jnp.repeat(x, count, axis=0)


def test_code_depends_on_all_earlier_codes_and_on_no_others():
  _, params, condition, label, run = _setup()
  random = np.random.default_rng(1)
  codes = np.tile(random.integers(0, 7, (1, 12)), (13, 1))
  for s in range(12):  # row s has another code s; the last has none
    codes[s, s] = (codes[s, s] + 1) % 7
  logits = run(params, codes, _repeated(condition, 13), _repeated(label, 13))
  moved = np.abs(np.asarray(logits[:12] - logits[12:])).max(-1)  # [s, t]
  expected = np.triu(np.ones((12, 12), bool), 1)
  assert (moved[~expected] == 0).all()
  assert (moved[expected] > 1e-7).all()


def test_condition_told_beside_the_codes_alone_is_not_attended_to():
  model = _make(num_conditions=5, beside=_BESIDE, prefixed=False)
  codes, condition = jnp.zeros((1, 12), jnp.int32), jnp.asarray([[0, 1, 2]])
  params = tiny_prior.init(model, codes, condition)
  assert "condition_table" not in params["params"]
  run = lambda condition: model.apply(params, codes, condition)[0]
  last = max(set(_BESIDE), key=_BESIDE.index)  # the one that comes last
  moved = run(condition) - run(condition.at[0, last].set(4))
  moved = np.abs(np.asarray(moved)).max(-1) > 0
  assert not moved[: _BESIDE.index(last)].any() and moved.any()


def test_condition_and_class_reach_every_code():
  _, params, condition, label, run = _setup()
  codes = jnp.zeros((13, 12), jnp.int32)
  tell = lambda condition, label: run(
    params, codes, _repeated(condition, 13), _repeated(label, 13)
  )[0]
  logits = tell(condition, label)
  swapped = condition[:, ::-1].at[0, 0].set((condition[0, 2] + 1) % 5)
  for other in (tell(swapped, label), tell(condition, label + 1)):
    assert (np.abs(np.asarray(logits - other)).max(-1) > 1e-6).all()


def test_token_beside_a_code_enters_at_its_place():
  _, params, condition, label, run = _setup()
  told = {"params": dict(params["params"])}
  # Without a convolution after it what enters at a place stays there.
  for name in ("condition_table", "stack"):
    told["params"][name] = jax.tree.map(jnp.zeros_like, told["params"][name])
  codes = jnp.zeros((13, 12), jnp.int32)
  say = lambda condition: run(
    told, codes, _repeated(condition, 13), _repeated(label, 13)
  )[0]
  for token in range(3):
    other = condition.at[0, token].set((condition[0, token] + 1) % 5)
    moved = np.abs(np.asarray(say(condition) - say(other))).max(-1) > 1e-6
    np.testing.assert_array_equal(moved, np.equal(_BESIDE, token))


def test_sampling_equals_recomputing_and_keeps_given_codes():
  model, params, condition, label, run = _setup()
  condition, label = _repeated(condition, 13), _repeated(label, 13)
  keys = jax.random.split(jax.random.key(0), 13)
  given = decode.Given(
    jnp.full((13, 12), 3, jnp.int32),
    jnp.broadcast_to(jnp.arange(12) < 2, (13, 12)),
  )
  settings = decode.Settings.create(0.0)
  drawn = tiny.jit(
    lambda keys: decode.sample(
      model,
      params,
      keys,
      12,
      settings,
      condition=condition,
      label=label,
      given=given,
      known=1,
    )
  )(keys)
  codes = np.full((13, 12), 3, np.int32)
  for t in range(2, 12):
    codes[:, t] = np.argmax(run(params, codes, condition, label)[:, t], -1)
  np.testing.assert_array_equal(drawn, codes)
  assert len(np.unique(codes)) > 1


def test_size_is_near_a_transformers_and_flops_are_counted():
  model = _make(
    num_codes=1024, grid=(16, 16), blocks=12, residuals=4, width=448
  )
  shapes = jax.eval_shape(
    model.init, jax.random.key(0), jnp.zeros((1, 256), jnp.int32)
  )
  count = sum(x.size for x in jax.tree.leaves(shapes))
  assert 2.0e8 < count < 4.5e8
  flops = model.forward_flops(256, 0)
  np.testing.assert_allclose(flops, 2 * 256 * count, rtol=0.2)
  assert prior.flops(model, 256, 0, 2) == 6 * flops


def test_heads_that_do_not_divide_the_width_are_refused():
  with pytest.raises(ValueError, match="width 8 must be a multiple of 3 heads"):
    tiny_prior.init(_make(heads=3), jnp.zeros((1, 12), jnp.int32))


def test_codes_must_fill_the_grid_and_labels_be_there():
  model = _make(num_classes=3)
  for codes, message in ((11, "11 codes do not fill"), (12, "3 classes needs")):
    with pytest.raises(ValueError, match=message):
      tiny_prior.init(model, jnp.zeros((1, codes), jnp.int32))
