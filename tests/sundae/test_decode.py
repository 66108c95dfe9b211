"""Sampling: the law of a step, schedules, stops, masks, independence."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sundae import decode
from tests.sundae import tiny

B = 4
GRID = (4, 4)
V = tiny.NUM_CODES


class _Table:
  """A model whose logits are a table of places: [h, w, v] for each label."""

  grid, num_codes, num_classes = GRID, V, 2

  def apply(self, params, codes, label):
    """Return logits [b, h, w, v], whatever the codes."""
    return params[label]


def _params(scale=1.0):
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.normal(0, scale, (3, *GRID, V)), jnp.float32)


def _keys(count=B, seed=0):
  fold = lambda i: jax.random.fold_in(jax.random.key(seed), i)
  return jax.vmap(fold)(jnp.arange(count))


def _plain(count=B, label=0):
  return decode.nothing_given(jnp.full((count,), label, jnp.int32), GRID)


@functools.cache
def _run(**static):
  return jax.jit(functools.partial(decode.sample, _Table(), **static))


@pytest.fixture(scope="module")
def network():
  """Return (run, params) of a real network; run(keys, condition, settings)."""
  net = tiny.make_model(num_classes=2, layers=(0, 1, 0), resampling="none")
  params = tiny.init(net)
  run = jax.jit(functools.partial(decode.sample, net, frames=9))
  return functools.partial(run, params), params


def _settings(steps=6, **fields):
  return decode.Settings.create(steps, **{"min_steps": 0, **fields})


def test_proportion_of_zero_changes_nothing_and_goes_on():
  run = _run(frames=2)
  codes, info = run(_params(), _keys(), _plain(), _settings(proportion=0.0))
  np.testing.assert_array_equal(codes, info["history"][:, 0])
  assert not info["stopped"].any() and (info["steps"] == 6).all()
  assert len(np.unique(codes)) > 3  # the start is noise


def test_samples_of_the_authors_stop_where_nothing_changed():
  settings = _settings(proportion=0.0, agreed=False)
  codes, info = _run(frames=2)(_params(), _keys(), _plain(), settings)
  np.testing.assert_array_equal(codes, info["history"][:, 0])
  assert info["stopped"].all() and (info["steps"] == 1).all()


def test_proportion_of_one_replaces_everything():
  params = jnp.full((3, *GRID, V), -1e9).at[..., 3].set(0.0)
  codes, info = _run(frames=2)(
    params, _keys(), _plain(), _settings(proportion=1.0)
  )
  assert (info["history"][:, 1] == 3).all() and (codes == 3).all()


def test_start_and_draws_follow_their_laws():
  n, params = 2000, _params()
  settings = _settings(1, proportion=1.0, temperature=0.7)
  codes, info = _run(frames=2)(params, _keys(n), _plain(n), settings)
  count = lambda x, code: np.mean(np.asarray(x) == code, axis=0)
  expected = jax.nn.softmax(params[0] / 0.7)
  for code in range(V):
    start = count(info["history"][:, 0], code)
    np.testing.assert_allclose(start, 1 / V, atol=0.05)
    np.testing.assert_allclose(
      count(codes, code), expected[..., code], atol=0.05
    )


def test_accepted_share_is_the_proportion():
  n = 2000
  params = jnp.full((3, *GRID, V), -1e9).at[..., 0].set(0.0)
  run = _run(frames=2)
  for confident in (False, True):
    settings = _settings(1, proportion=0.25, confident=confident)
    codes, info = run(params, _keys(n), _plain(n), settings)
    noise = info["history"][:, 0] != 0
    left = np.sum((codes != 0) & noise) / np.sum(noise)
    assert abs(left - 0.75) < 0.02


def test_places_are_accepted_independently_of_each_other():
  n = 2000
  params = jnp.full((3, *GRID, V), -1e9).at[..., 0].set(0.0)
  settings = _settings(1, proportion=0.5)
  codes, _ = _run(frames=2)(params, _keys(n), _plain(n), settings)
  taken = np.asarray(codes == 0).reshape(n, -1)
  assert abs(np.corrcoef(taken.T) - np.eye(taken.shape[1])).max() < 0.1


def test_confidence_takes_likely_places_first_and_exactly_so_many():
  # Rows 0 and 1 are certain, the others nearly uniform.
  params = _params(0.01).at[:, :2, :, 5].set(60.0)
  best = jnp.argmax(params[0], axis=-1)
  keep = jnp.zeros((B, *GRID), bool).at[:, 0, 0].set(True)
  condition = decode.Condition(
    jnp.zeros(B, jnp.int32), jnp.full((B, *GRID), 2), keep
  )
  settings = _settings(1, proportion=7 / 15, confident=True, temperature=0.0)
  codes, info = _run(frames=2)(params, _keys(), condition, settings)
  start = info["history"][:, 0]
  new = (start != best) & ~keep
  taken = codes != start
  assert taken[:, :2][new[:, :2]].mean() > 0.7  # by chance it is 7 of 15
  for i in range(B):
    assert taken[i].sum() == np.floor(7 / 15 * new[i].sum() + 0.5)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_confidence_reaches_every_place_in_some_steps(noise):
  # Row 0 is the surest: it must not be accepted again and again.
  params = jnp.zeros((3, *GRID, V)).at[..., 3].set(9.0)
  params = params.at[:, 0, :, 3].set(60.0)
  fields = {"confident": True, "confidence_noise": noise}
  settings = _settings(8, proportion=0.5, temperature=0.0, **fields)
  codes, info = _run(frames=2)(params, _keys(), _plain(), settings)
  assert (codes == 3).all() and info["stopped"].all()


def test_no_sample_stops_while_the_model_would_change_it():
  # Of the certain codes few are accepted: now and then a step takes none.
  params = jnp.full((3, *GRID, V), -1e9).at[..., 3].set(0.0)
  settings = _settings(100, proportion=0.1)
  codes, info = _run(frames=2)(params, _keys(64), _plain(64), settings)
  assert info["stopped"].all() and (codes == 3).all()
  settings = settings.replace(agreed=np.bool_(False))
  codes, info = _run(frames=2)(params, _keys(64), _plain(64), settings)
  assert info["stopped"].all() and (codes != 3).any()


def test_noise_of_confidence_is_as_large_as_is_asked():
  # Place (i, j) draws code 0 with a confidence of its own.
  score = jnp.asarray(np.random.default_rng(0).permutation(16).reshape(GRID))
  table = jnp.zeros((3, *GRID, V)).at[..., 0].set(0.01 + 0.35 * score)
  keep = jnp.zeros((400, *GRID), bool)
  condition = decode.Condition(
    jnp.zeros(400, jnp.int32), jnp.zeros((400, *GRID), jnp.int32), keep
  )
  shares = {}
  for noise in (0.0, 0.01, 1.0, 1e4):
    settings = _settings(
      1,
      proportion=0.25,
      confident=True,
      temperature=0.0,
      confidence_noise=noise,
    )
    codes, info = _run(frames=2)(table, _keys(400), condition, settings)
    wrong = info["history"][:, 0] != 0
    taken = (codes == 0) & wrong
    shares[noise] = jnp.sum(taken, axis=0) / jnp.sum(wrong, axis=0)
    if noise == 0:  # the surest that are wrong, in their order
      surer = wrong.reshape(400, 1, 16) & (score.ravel() > score.reshape(16, 1))
      rank = surer.sum(axis=-1).reshape(wrong.shape)
      num = jnp.floor(0.25 * wrong.sum(axis=(1, 2), keepdims=True) + 0.5)
      np.testing.assert_array_equal(taken, wrong & (rank < num))
  np.testing.assert_allclose(shares[1e4], 0.25, atol=0.1)
  best = [shares[noise][score >= 12].mean() for noise in (0.01, 1.0, 1e4)]
  assert best[0] > best[1] + 0.05 > best[2] + 0.1


def test_schedules_include_both_ends():
  at = lambda step, steps: float(
    decode.schedule(jnp.array([1.0, 0.7]), step, steps)
  )
  assert at(0, 4) == 1.0 and at(0, 1) == 1.0
  assert at(3, 4) == pytest.approx(0.7) and at(1, 4) == pytest.approx(0.9)


def test_first_and_last_step_have_the_ends_of_the_schedules():
  run, params = _run(frames=4), _params()
  best = jnp.argmax(params[0], axis=-1)
  settings = _settings(3, proportion=(0.0, 1.0), temperature=0.0, min_steps=3)
  _, info = run(params, _keys(400), _plain(400), settings)
  history = np.asarray(info["history"])
  np.testing.assert_array_equal(history[:, 1], history[:, 0])
  wrong = history[:, 1] != best
  left = np.mean((history[:, 2] != best)[wrong])
  assert abs(left - 0.5) < 0.05
  assert (history[:, 3] == best).all()
  settings = _settings(3, proportion=1.0, temperature=(1e4, 0.0), min_steps=3)
  _, info = run(params, _keys(400), _plain(400), settings)
  shares = [np.mean(info["history"][:, t] == best) for t in (1, 3)]
  assert abs(shares[0] - 1 / V) < 0.03 and shares[1] == 1


@pytest.mark.parametrize("places", [1, 2])
def test_confidence_fills_holes_smaller_than_its_share(places):
  keep = jnp.ones((B, *GRID), bool).at[:, 0, :places].set(False)
  condition = _plain().replace(keep=keep)
  params = jnp.full((3, *GRID, V), -1e9).at[..., 3].set(0.0)
  settings = _settings(8, proportion=0.2, min_steps=8, confident=True)
  codes, _ = _run(frames=2)(params, _keys(), condition, settings)
  assert (codes[~keep] == 3).all()


def test_temperature_to_zero_is_argmax():
  params = _params()
  best = jnp.argmax(params[0], axis=-1)
  for fields in (
    {"temperature": 0.0},
    {"temperature": 1e-5},
    {"top_k": 1},
    {"top_p": 1e-6},
  ):
    settings = _settings(1, **{"proportion": 1.0, **fields})
    codes, _ = _run(frames=2)(params, _keys(), _plain(), settings)
    assert (codes == best).all(), fields


def test_last_argmax_takes_the_likeliest_everywhere():
  params = _params()
  settings = _settings(3, temperature=1.0, min_steps=10, argmax=True)
  codes, info = _run(frames=2)(params, _keys(), _plain(), settings)
  assert (codes == jnp.argmax(params[0], axis=-1)).all()
  assert (info["steps"] == 4).all()


def test_stops_come_after_the_least_steps_only():
  params = jnp.full((3, *GRID, V), -1e9).at[..., 3].set(0.0)
  settings = _settings(8, proportion=1.0, min_steps=5)
  _, info = _run(frames=2)(params, _keys(), _plain(), settings)
  assert (info["steps"] == 6).all()
  settings = _settings(4, proportion=1.0, min_steps=5)
  _, info = _run(frames=2)(params, _keys(), _plain(), settings)
  assert (info["steps"] == 4).all() and not info["stopped"].any()


def test_stopped_sample_never_changes_while_others_go_on():
  # Sample 0 is certain and stops; the others are drawn anew at every step.
  params = _params(0.0).at[0, ..., 4].set(1e9)
  condition = _plain().replace(label=jnp.array([0, 1, 1, 1]))
  settings = _settings(8, proportion=1.0, temperature=1.0, argmax=True)
  codes, info = _run(frames=10)(params, _keys(), condition, settings)
  assert info["steps"].tolist() == [2, 9, 9, 9]
  assert info["stopped"].tolist() == [True, False, False, False]
  assert (info["history"][0, 2:] == 4).all()
  assert (np.diff(info["history"][1:, :8], axis=1) != 0).any((2, 3)).all()
  np.testing.assert_array_equal(info["history"][:, -1], codes)


def test_masks_keep_their_codes_while_samples_stop_by_themselves():
  params = _params().at[1, ..., 4].set(1e9)
  keep = jnp.asarray(np.random.default_rng(1).random((B, *GRID)) < 0.5)
  keep = keep.at[3].set(True)
  given = tiny.codes(B)
  condition = decode.Condition(jnp.array([0, 1, 0, 0]), given, keep)
  settings = _settings(40, temperature=1.0, min_steps=15)
  codes, info = _run(frames=2)(params, _keys(), condition, settings)
  np.testing.assert_array_equal(codes[keep], given[keep])
  assert (codes[1] == jnp.where(keep[1], given[1], 4)).all()
  assert info["steps"][3] == 0 and info["stopped"][3]  # everything is kept
  assert 16 <= info["steps"][1] < 40 and info["stopped"][1]
  holes = info["history"][:, 0][~keep]
  assert (holes != given[~keep]).mean() > 0.5  # they begin as noise


def test_a_sample_depends_on_its_own_key_only(network):
  run, _ = network
  settings = _settings(temperature=1.0)
  condition = _plain().replace(label=jnp.array([0, 1, 2, 0]))
  codes, info = run(_keys(), condition, settings)
  order = jnp.array([2, 0, 3, 1])
  turned = condition.replace(label=condition.label[order])
  other, moved = run(_keys()[order], turned, settings)
  np.testing.assert_array_equal(codes[order], other)
  np.testing.assert_array_equal(info["steps"][order], moved["steps"])
  # And on its key it does depend.
  assert (run(_keys(seed=1), condition, settings)[0] != codes).any()


@pytest.mark.parametrize("confident", [False, True])
def test_neighbours_change_nothing_of_a_sample(network, confident):
  run, _ = network
  settings = _settings(temperature=1.0, confident=confident, argmax=True)
  rng = np.random.default_rng(0)

  def draw(seed, mine):
    """Draw with neighbours of a seed around sample 1, the same in all."""
    others = np.random.default_rng(seed)
    keep = others.random((B, *GRID)) < 0.3
    keep[1] = mine
    codes = np.array(tiny.codes(B, seed=seed))
    codes[1] = tiny.codes(1)[0]
    label = others.integers(0, 3, B).astype(np.int32)
    label[1] = 1
    keys = _keys(seed=seed).at[1].set(_keys()[1])
    condition = decode.Condition(*map(jnp.asarray, (label, codes, keep)))
    return run(keys, condition, settings)

  mine = rng.random(GRID) < 0.3
  codes, info = draw(1, mine)
  other, told = draw(2, mine)
  assert (codes[0] != other[0]).any()
  np.testing.assert_array_equal(codes[1], other[1])
  np.testing.assert_array_equal(info["history"][1], told["history"][1])
  assert info["steps"][1] == told["steps"][1]


def test_any_place_may_change_at_any_step(network):
  run, _ = network
  settings = _settings(8, temperature=1.0, min_steps=8)
  _, info = run(_keys(), _plain(), settings)
  moved = np.diff(np.asarray(info["history"]), axis=1) != 0  # [b, t, h, w]
  early, late = moved[:, :4].any(1), moved[:, 4:].any(1)
  assert (early & late).mean() > 0.5


def test_changing_settings_compiles_nothing_anew():
  run = jax.jit(functools.partial(decode.sample, _Table()))
  run(_params(), _keys(), _plain(), _settings())
  for settings in (
    _settings(11, temperature=(1.0, 0.5), proportion=(0.2, 0.9)),
    _settings(2, min_steps=4, top_k=2, top_p=0.4, confident=True, argmax=True),
    _settings(confident=True, confidence_noise=0.0),
  ):
    run(_params(), _keys(seed=3), _plain(label=1), settings)
  assert run._cache_size() == 1


def test_guidance_of_one_is_the_labelled_model_and_of_zero_the_null():
  params, settings = _params(), _settings(2, temperature=1.0)
  guided = _run(guided=True)
  for guidance, label in ((1.0, 1), (0.0, 2)):
    plain, _ = _run(frames=2)(params, _keys(), _plain(label=label), settings)
    same = settings.replace(guidance=np.float32(guidance))
    codes, _ = guided(params, _keys(), _plain(label=1), same)
    np.testing.assert_array_equal(plain, codes)


@pytest.mark.parametrize(
  "bad",
  [
    {"steps": 0},
    {"temperature": (1.0, -0.1)},
    {"proportion": 1.5},
    {"top_k": -1},
    {"top_p": 0.0},
    {"temperature": float("nan")},
    {"proportion": (0.5, float("nan"))},
    {"guidance": float("inf")},
    {"steps": 2**31},
    {"steps": 2**31 - 1, "argmax": True},
    {"steps": 2.5},
    {"steps": float("nan")},
    {"min_steps": 0.5},
    {"top_k": 1.5},
    {"confidence_noise": -1.0},
    {"confidence_noise": float("inf")},
  ],
)
def test_settings_out_of_range_are_refused(bad):
  with pytest.raises(ValueError, match=next(iter(bad))):
    decode.Settings.create(**bad)
