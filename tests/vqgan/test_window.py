"""Sliding windows against drawing every code from its window anew."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers import logits as logits_lib
from tests.vqgan import tiny, tiny_prior
from vqgan import decode, window

_SIZE = (4, 4)
_GRIDS = ("grid", "beside")  # kinds of conditions


def _local(i, n, size):
  """The specification's index of place i of n in its window."""
  if i <= size // 2:
    return i
  return size - (n - i) if n - i < size // 2 else size // 2


@pytest.mark.parametrize("size", [4, 16])
@pytest.mark.parametrize("extra", [0, 1, 2, 7, 24])
def test_window_has_each_place_where_the_specification_says(size, extra):
  n = size + extra
  found = np.arange(n) - window.starts(n, size)
  assert found.tolist() == [_local(i, n, size) for i in range(n)]


def test_axis_shorter_than_the_window_raises():
  with pytest.raises(
    ValueError, match=r"15 codes .* fewer than the window's 16"
  ):
    window.starts(15, 16)


def test_row_of_the_papers_window_stands_moves_and_stands():
  stretches = lambda n: window._stretches(window.starts(n, 16))
  assert stretches(16) == [(0, 16, False)]
  assert stretches(17) == [(0, 9, False), (9, 17, False)]
  assert stretches(24) == [(0, 9, False), (9, 16, True), (16, 24, False)]
  assert stretches(64) == [(0, 9, False), (9, 56, True), (56, 64, False)]


@functools.cache
def _setup(size, kind):
  """Return (model, params): of no condition, of a grid, or of classes."""
  length = size[0] * size[1]
  changes = {
    "none": {},
    "grid": {"num_conditions": 5, "n_unmasked": length},
    "beside": {"num_conditions": 5, "beside": tuple(range(length))},
    "class": {"num_classes": 3},
  }[kind]
  model = tiny_prior.make(length=2 * length - 1, **changes)
  tokens = length if kind in _GRIDS else 0
  inputs = tiny_prior.inputs(model, 1, length, tokens)
  params = tiny_prior.init(model, *inputs)
  if kind == "grid":
    # So much that draws depend on what attention finds of the condition.
    table = params["params"]["condition_table"]["embedding"]
    params["params"]["condition_table"]["embedding"] = 10 * table
  return model, params


def _keys(num):
  return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(5), i))(
    jnp.arange(num)
  )


def _naive(size, kind, grid, settings, condition, label, given, guided):
  """Draw every code from a whole pass over its window."""
  model, params = _setup(size, kind)
  num, (h, w) = 2, grid
  codes = np.zeros((num, h, w), np.int32)
  if given is not None:
    codes = np.where(given.keep, given.codes, 0)

  @tiny.jit
  def draw(patch, tokens, label, index, keys, place):
    run = lambda label: jax.lax.dynamic_index_in_dim(
      model.apply(params, patch, tokens, label), index, 1, keepdims=False
    )
    logits = run(label)
    if guided:
      null = run(jnp.full_like(label, model.num_classes))
      logits = null + settings.guidance * (logits - null)
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, place)
    return logits_lib.draw(keys, logits, settings.temperature)

  for i in range(h):
    for j in range(w):
      if given is not None and given.keep[:, i, j].all():
        continue
      row, col = _local(i, h, size[0]), _local(j, w, size[1])
      cut = lambda x, top=i - row, left=j - col: x[
        :, top : top + size[0], left : left + size[1]
      ].reshape(num, -1)
      tokens = None if condition is None else cut(condition)
      index = row * size[1] + col
      code = draw(cut(codes), tokens, label, index, _keys(num), i * w + j)
      if given is not None:
        code = np.where(given.keep[:, i, j], given.codes[:, i, j], code)
      codes[:, i, j] = code
  return codes


def _check(grid, kind="none", size=_SIZE, some_given=False, guided=False):
  model, params = _setup(size, kind)
  random = np.random.default_rng(1)
  grids = lambda high: random.integers(0, high, (2, *grid)).astype(np.int32)
  condition = grids(5) if kind in _GRIDS else None
  label = jnp.asarray([0, 2]) if kind == "class" else None
  given = None
  if some_given:
    given = decode.Given(grids(11), random.random((2, *grid)) < 0.3)
  settings = decode.Settings.create(0.8, guidance=2.0)
  drawn = tiny.jit(
    lambda keys, condition, given: window.sample(
      model,
      params,
      keys,
      grid,
      size,
      settings,
      condition=condition,
      label=label,
      given=given,
      guided=guided,
    )
  )(_keys(2), condition, given)
  args = (settings, condition, label, given, guided)
  expected = _naive(size, kind, grid, *args)
  np.testing.assert_array_equal(drawn, expected)
  return np.asarray(drawn), given


def test_wide_image_equals_a_pass_for_every_code():
  drawn, _ = _check((4, 6))
  assert len(np.unique(drawn)) > 3


@pytest.mark.parametrize("kind", _GRIDS)
def test_large_image_with_a_grid_of_conditions_and_given_codes(kind):
  drawn, given = _check((6, 10), kind, some_given=True)
  assert given is not None
  np.testing.assert_array_equal(drawn[given.keep], given.codes[given.keep])


def test_tall_image_with_guidance():
  drawn, _ = _check((7, 4), "class", guided=True)
  assert drawn.shape == (2, 7, 4)


@pytest.mark.parametrize("kind", ["none", "beside"])
def test_image_of_the_windows_size_equals_plain_sampling(kind):
  model, params = _setup(_SIZE, kind)
  settings = decode.Settings.create()
  tokens = None
  if kind == "beside":
    tokens = np.random.default_rng(2).integers(0, 5, (2, *_SIZE), np.int32)
  flat = None if tokens is None else tokens.reshape(2, 16)
  plain = tiny.jit(
    lambda keys: decode.sample(
      model, params, keys, 16, settings, condition=flat
    )
  )(_keys(2))
  args = (model, params, _keys(2), _SIZE, _SIZE, settings)
  slid = tiny.jit(
    lambda keys: window.sample(*args[:2], keys, *args[3:], condition=tokens)
  )
  np.testing.assert_array_equal(slid(_keys(2)).reshape(2, 16), plain)
  # The way of larger images gives the same.
  slider = window._Slider(*args, tokens, None, None, False)
  np.testing.assert_array_equal(tiny.jit(slider.sample)(), slid(_keys(2)))


@pytest.mark.slow
@pytest.mark.parametrize(
  ("grid", "kind"),
  [((16, 16), "grid"), ((16, 24), "beside"), ((23, 40), "grid")],
)
def test_papers_window_equals_a_pass_for_every_code(grid, kind):
  drawn, _ = _check(grid, kind, size=(16, 16))
  assert drawn.shape == (2, *grid)
