"""The hourglass: the released arithmetic, and what is done better."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers import transformer
from sundae import levels, model
from tests.sundae import golden, tiny


def _full(grid, num_codes, layers, num_heads=8, width=1024):
  shape = transformer.Shape(
    width=width,
    num_heads=num_heads,
    head_width=64,
    gate=None,
    qkv_bias=False,
    epsilon=1e-5,
  )
  return model.Hourglass(grid, num_codes, shape, layers=layers, reference=True)


def test_reference_equals_the_released_code():
  net, params, arrays = golden.load()
  apply, label = jax.jit(net.apply), jnp.asarray(arrays["classes"])
  logits = apply(params, arrays["tokens"].reshape(2, 8, 8), label)
  np.testing.assert_allclose(
    logits, arrays["logits"].reshape(2, 8, 8, 32), atol=1e-5
  )
  second = apply(params, jnp.argmax(logits, axis=-1), label)
  np.testing.assert_allclose(
    second, arrays["logits2"].reshape(2, 8, 8, 32), atol=1e-5
  )


# McKinney & Willcocks 2022: FFHQ 256, CelebA 256, FFHQ 1024.
@pytest.mark.parametrize(
  ("grid", "num_codes", "layers", "millions"),
  [
    ((16, 16), 1024, (2, 10, 2), 178.4),
    ((16, 16), 1024, (2, 12, 2), 199.4),
    ((32, 32), 8192, (2, 12, 2), 214.1),
  ],
)
def test_parameter_count_is_the_published_one(
  grid, num_codes, layers, millions
):
  net = _full(grid, num_codes, layers)
  codes = jax.ShapeDtypeStruct((1, *grid), jnp.int32)
  shapes = jax.eval_shape(net.init, jax.random.key(0), codes)
  count = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))
  assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize(
  ("grid", "num_codes", "layers", "gflop"),
  [((16, 16), 1024, (2, 10, 2), 43.8), ((32, 32), 8192, (2, 12, 2), 208.9)],
)
def test_work_of_a_forward_pass_is_the_published_one(
  grid, num_codes, layers, gflop
):
  work = model.flops(_full(grid, num_codes, layers), 1)
  assert abs(work / 1e9 / gflop - 1) < 0.01


def _change(net, at):
  """Say which places' logits change with the code at a place: bool [h, w]."""
  params = tiny.init(net)
  codes = tiny.codes(1, net.grid)
  other = codes.at[(0, *at)].set((codes[(0, *at)] + 1) % tiny.NUM_CODES)
  apply = jax.jit(net.apply)
  moved = apply(params, codes) != apply(params, other)
  return np.asarray(moved.any(-1)[0])


@pytest.mark.parametrize("resampling", model.RESAMPLING)
def test_first_place_depends_on_the_last(resampling):
  net = tiny.make_model(layers=(0, 1, 0), resampling=resampling)
  assert _change(net, (3, 3)).all()


def _gradients(net):
  codes = tiny.codes(2, net.grid)
  loss = lambda p: jnp.sum(jnp.sin(net.apply(p, codes)[..., 0]))
  return jax.jit(jax.grad(loss))(tiny.init(net))


def test_loss_reaches_every_parameter():
  grads = _gradients(tiny.make_model(layers=(1, 0, 0)))
  still = [
    jax.tree_util.keystr(path)
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads)
    if not leaf.any()
  ]
  assert not still


def test_released_resampling_has_dead_parameters():
  grads = _gradients(tiny.make_model(layers=(0, 0, 0), reference=True))
  body = grads["params"]["body"]
  # One key: whatever the query, its value has all the weight.
  assert abs(body["refine_up"]["attend"]["layer"]["query"]["kernel"]).max() < (
    1e-6
  )
  alive = body["refine_down"]["attend"]["layer"]["query"]["kernel"]
  assert abs(alive).max() > 1e-4


@pytest.mark.parametrize(
  ("grid", "factors"),
  [
    ((4, 6), ((2, 2),)),
    ((2, 6), ((1, 2),)),
    ((8, 2), ((4, 1),)),
    ((4, 8), ((4, 4),)),
    ((8, 4), ((4, 1), (1, 2))),
  ],
)
def test_place_changes_only_its_own_patch_on_the_way_down(grid, factors):
  layers = (0,) * (2 * len(factors) + 1)
  net = tiny.make_model(
    grid, layers=layers, factors=factors, resampling="patch"
  )
  _, state = jax.jit(
    lambda p, c: net.apply(
      p, c, capture_intermediates=True, mutable=["intermediates"]
    )
  )(tiny.init(net), _stack_of_single_changes(grid))
  level, whole = state["intermediates"]["body"], np.array((1, 1))
  for factor in factors:
    down = level["refine_down"]["__call__"][0]
    moved = np.asarray((down[1:] != down[0]).any(-1))  # [f, c]
    whole *= factor
    np.testing.assert_array_equal(moved.T, levels.inside(grid, whole))
    level = level["coarse"]


def _stack_of_single_changes(grid):
  codes = np.repeat(np.asarray(tiny.codes(1, grid)), np.prod(grid) + 1, axis=0)
  for f, (row, col) in enumerate(np.ndindex(*grid)):
    codes[f + 1, row, col] = (codes[f + 1, row, col] + 1) % tiny.NUM_CODES
  return jnp.asarray(codes)


def test_released_strips_miss_the_patch():
  strips = levels.strips((4, 4), (2, 2))
  inside = levels.inside((4, 4), (2, 2))
  assert (strips.sum(1) == 4).all() and (inside.sum(1) == 4).all()
  assert (strips & inside).sum() < 0.6 * strips.sum()


def test_place_sees_its_patch_and_those_around_it():
  around = levels.around((8, 8), (2, 2))
  assert sorted(set(around.sum(1))) == [4, 6, 9]  # corner, edge, within
  seen = around[3 * 8 + 3].reshape(4, 4)  # patch (1, 1)
  expected = np.zeros((4, 4), bool)
  expected[:3, :3] = True
  np.testing.assert_array_equal(seen, expected)


def test_positions_reach_every_head_but_in_the_reference():
  ours = levels.angles((4, 4), 8)
  assert ours.shape == (16, 4) and (abs(np.diff(ours, axis=0)) > 0).any()
  reference = levels.reference_angles((4, 4), 8, 2, innermost=True)
  assert (abs(np.diff(reference[:, 0], axis=0)) > 0).any()
  assert not reference[:, 1].any()


def _without_other_heads(params, heads):
  """Let only some heads of each attention reach its output."""

  def zero(path, leaf):
    names = [getattr(part, "key", "") for part in path]
    if names[-2:] != ["out", "kernel"]:
      return leaf
    width = leaf.shape[-2] // 2  # of two heads
    mine = np.isin(np.arange(leaf.shape[-2]) // width, heads)
    return jnp.where(mine[:, None], leaf, 0.0)

  return jax.tree_util.tree_map_with_path(zero, params)


@pytest.mark.parametrize(
  ("layers", "resampling"),
  [
    ((1, 0, 0), "none"),
    ((0, 1, 0), "none"),
    ((0, 0, 1), "none"),
    ((0, 0, 0), "global"),
  ],
)
def test_every_head_of_the_network_knows_its_place(layers, resampling):
  net = tiny.make_model((8, 8), layers=layers, resampling=resampling)
  params, codes = tiny.init(net), tiny.codes(1, (8, 8))
  apply = jax.jit(net.apply)

  def alike(*heads):
    """Whether a picture moved by a patch has its logits moved by a patch."""
    one = _without_other_heads(params, heads)
    turn = lambda x, by: jnp.roll(x, (by, by), axis=(1, 2))
    moved = turn(apply(one, turn(codes, 2)), -2)
    return np.allclose(moved, apply(one, codes), atol=1e-3)

  assert alike()  # only attention knows
  assert not alike(0) and not alike(1)


def test_top_frequency_follows_the_side():
  # Neighbours are half a turn of it apart.
  for side in (4, 16, 32):
    first, second = levels.angles((side, side), 8)[[0, side], 1]
    assert second - first == pytest.approx(np.pi)
  # The last place of the reference lies at 1.
  reference = levels.reference_angles((32, 32), 8, 1, innermost=False)
  assert reference[-1, 0, 1] == pytest.approx(np.pi * 8)


@pytest.mark.parametrize(
  ("side", "width"),
  # Those of the configs: fine, coarse; widths of a head of 16, 32 and 64.
  [(4, 16), (8, 16), (8, 32), (16, 32), (16, 64), (28, 64), (32, 64), (14, 64)],
)
def test_no_two_ways_across_a_grid_turn_alike(side, width):
  angles = levels.angles((side, 1), width)[:, : width // 4]  # of the rows
  ways = np.concatenate([angles[-1:0:-1] - angles[0], angles[0] - angles])
  turns = np.exp(1j * ways)  # [2 side - 1, k/4]
  chords = abs(turns[:, None] - turns[None]).max(axis=-1)
  assert chords[~np.eye(len(ways), dtype=bool)].min() > 0.5


@pytest.mark.parametrize("places", levels.PLACES)
def test_opposite_edges_are_two_places_but_from_corner_to_corner(places):
  net = tiny.make_model(
    (8, 8),
    layers=(0, 1, 0),
    resampling="none",
    factors=((1, 1),),
    places=places,
  )
  params, codes = tiny.init(net), np.array(tiny.codes(1, (8, 8)))
  swapped = codes.copy()
  swapped[..., [0, 7]] = codes[..., [7, 0]]
  apply = jax.jit(net.apply)
  logits = np.array(apply(params, swapped))
  logits[..., [0, 7], :] = logits[..., [7, 0], :]
  same = np.allclose(logits, apply(params, codes), atol=1e-2)
  assert same == (places == "corners")


def test_patches_lie_amid_their_places():
  fine = levels.angles((4, 8), 8).reshape(4, 8, 4)
  patches = levels.patch_angles((4, 8), (2, 4), 8).reshape(2, 2, 4)
  np.testing.assert_allclose(
    patches[0, 1], fine[:2, 4:].mean((0, 1)), rtol=1e-5
  )


@pytest.mark.parametrize(
  ("grid", "layers", "factors"),
  [
    ((4, 8), (1, 1, 1), ((1, 2),)),
    ((8, 4), (1, 0, 1, 0, 1), ((4, 1), (2, 2))),
    ((4, 8), (1, 1, 1), ((4, 4),)),
  ],
)
def test_grids_need_not_be_square_nor_factors_equal(grid, layers, factors):
  net = tiny.make_model(grid, layers=layers, factors=factors)
  logits = jax.eval_shape(net.apply, tiny.init(net), tiny.codes(1, grid))
  assert logits.shape == (1, *grid, tiny.NUM_CODES)


def test_transposed_picture_differs_from_the_picture():
  # Rows and columns have angles of their own.
  net = tiny.make_model(layers=(0, 1, 0), resampling="none")
  params, codes = tiny.init(net), tiny.codes(1)
  apply = jax.jit(net.apply)
  turned = apply(params, codes.swapaxes(1, 2)).swapaxes(1, 2)
  assert not np.allclose(apply(params, codes), turned, atol=1e-3)


def test_label_moves_every_place():
  net = tiny.make_model(num_classes=2, layers=(0, 0, 0), resampling="none")
  params, codes = tiny.init(net), tiny.codes(1)
  apply = jax.jit(net.apply)
  one, other, null = (
    apply(params, codes, jnp.array([label])) for label in (0, 1, 2)
  )
  for a, b in ((one, other), (one, null), (other, null)):
    assert (a != b).any(-1).all()


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"grid": (4, 5)}, "4x5 must be divisible by the factor 2x2"),
    ({"layers": (1, 1)}, "do not fit 1 factors"),
    ({"layers": (1, -1, 1)}, "must be at least 0"),
    ({"resampling": "patches"}, "none, patch, global"),
    ({"reference": True, "resampling": "global"}, "no resampling"),
    ({"shape": {"head_width": 6}}, "multiple of 4"),
  ],
)
def test_impossible_models_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    tiny.make_model(**fields)


def test_wrong_inputs_are_refused():
  net = tiny.make_model(num_classes=2)
  params = tiny.init(net)
  with pytest.raises(ValueError, match="windows"):
    net.apply(params, tiny.codes(1, (4, 6)), jnp.zeros((1,), jnp.int32))
  with pytest.raises(ValueError, match="give a label"):
    net.apply(params, tiny.codes(1))
