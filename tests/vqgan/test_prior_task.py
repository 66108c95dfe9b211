"""The task of priors: the loss, what is dropped, kept and decayed."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.vqgan import tiny, tiny_prior
from training import optimizer, trees
from training import task as task_lib
from vqgan import decode, frame, orders, pixel_codes, prior_task
from vqgan.conditions import kinds, objects

_GRID = (4, 3)
_MEASURED = {
  "tokenizer/palette": np.random.default_rng(0).uniform(0, 255, (11, 3)),
  "tokenizer_config": np.zeros(3, np.uint8),
}


def _make(condition=None, model=(), **changes):
  condition = condition or kinds.Nothing()
  fields = {
    "model": tiny_prior.make(
      num_classes=3,
      num_conditions=condition.vocabulary,
      **{"length": condition.length + 12, **dict(model)},
    ),
    "tokenizer": pixel_codes.Palette(11, _GRID),
    "condition": condition,
    "tx": optimizer.make(
      name="adamw",
      peak=1e-2,
      schedule="constant",
      weight_decay=0.5,
      decay_mask=optimizer.kernels,
    ),
    "from_codes": True,
  }
  return prior_task.PriorTask(**{**fields, **changes})


def _state(task, scale=0.3):
  shapes = jax.eval_shape(task.init, jax.random.key(0), _MEASURED)
  random = np.random.default_rng(1)
  fill = lambda x: jnp.asarray(random.normal(0, scale, x.shape), x.dtype)
  params = jax.tree.map(fill, shapes.params)
  state = jax.eval_shape(lambda: shapes)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state)
  palette = jnp.asarray(_MEASURED["tokenizer/palette"], jnp.float32)
  return zeros.replace(
    params=params,
    ema=None if zeros.ema is None else params,
    frozen={"tokenizer": {"palette": palette}},
  )


def _batch(size=4, seed=2):
  random = np.random.default_rng(seed)
  return {
    "codes": jnp.asarray(random.integers(0, 11, (size, *_GRID)), jnp.uint16),
    "label": jnp.asarray(random.integers(0, 3, size), jnp.int32),
    "example_id": jnp.arange(size),
  }


def _loss(task, state, batch, key=0):
  loss, _ = tiny.jit(task._loss)(
    state.params, state.frozen, batch, jax.random.key(key)
  )
  return float(loss.total / loss.count)


def test_task_fits_the_protocol_and_describes_its_batch():
  task = _make(kinds.Scene(objects.Layout(64, 5, most=2), _GRID))
  assert isinstance(task, task_lib.Task)
  spec = task.batch_spec(4)
  assert set(spec) == {
    "codes",
    "label",
    "example_id",
    "boxes",
    "box_labels",
    "crop",
  }
  assert spec["codes"].shape == (4, *_GRID)
  assert _make(from_codes=False).batch_spec(2)["image"].shape == (2, *_GRID, 3)
  assert task.train_flops(4) == 2 * task.train_flops(2) > 0


def test_first_state_holds_the_first_stage_and_predicts_uniformly():
  task = _make(ema_decay=0.9)
  state = tiny.jit(task.init)(jax.random.key(0), _MEASURED)
  np.testing.assert_allclose(
    state.frozen["tokenizer"]["palette"], _MEASURED["tokenizer/palette"], 1e-5
  )
  assert set(state.frozen) == {"tokenizer"} and state.ema is not None
  batch = {**_batch(), "mask": jnp.asarray([True, True, True, False])}
  rows = tiny.jit(task.eval_step)(state, batch, jax.random.key(0))
  bits = np.asarray(rows["bits_codes"])
  np.testing.assert_allclose(bits[:3], 12 * math.log2(11), rtol=0.05)
  assert bits[3] == 0 and rows["elements"].tolist() == [12, 12, 12, 0]


def test_every_order_undoes_itself_and_reaches_the_model():
  codes = jnp.arange(12).reshape(1, *_GRID)
  for name in orders.NAMES:
    task = _make(order=name)
    sequence = task.sequence(codes)
    np.testing.assert_array_equal(
      sequence[0], orders.order(name, *_GRID), err_msg=name
    )
    np.testing.assert_array_equal(task.image_order(sequence), codes)
  state = _state(task)
  assert _loss(task, state, _batch()) != _loss(_make(), state, _batch())


def test_rows_are_encoded_as_codes_are_read():
  task = _make()
  state, batch = _state(task), _batch()
  images = task.pictures(state.frozen, batch["codes"].astype(int)).images
  rows = {k: x for k, x in batch.items() if k != "codes"} | {"image": images}
  assert _loss(task, state, batch) == _loss(task, state, rows)
  made = task.reconstruct(state, rows)
  np.testing.assert_array_equal(made, images)


def test_class_drop_hides_the_label_in_training_only():
  batch = _batch()
  other = {**batch, "label": (batch["label"] + 1) % 3}
  state = _state(_make())
  assert _loss(_make(), state, batch) != _loss(_make(), state, other)
  blind = _make(class_drop=1.0)
  assert _loss(blind, state, batch) == _loss(blind, state, other)
  null = {**batch, "label": jnp.full(4, 3)}
  assert _loss(blind, state, batch) == _loss(_make(), state, null)
  mask = {"mask": jnp.ones(4, bool)}
  measure = tiny.jit(blind.eval_step)
  bits = lambda x: measure(state, {**x, **mask}, jax.random.key(0))
  assert (bits(batch)["bits_codes"] != bits(other)["bits_codes"]).all()


def test_pkeep_replaces_inputs_but_not_targets():
  batch, state = _batch(64), _state(_make())
  plain = [_loss(_make(), state, batch, key) for key in (0, 1)]
  assert plain[0] == plain[1]
  noisy = [_loss(_make(pkeep=0.5), state, batch, key) for key in (0, 1)]
  assert noisy[0] != noisy[1]
  # A constant model predicts the targets alone, whatever it is fed.
  params = jax.tree.map(jnp.zeros_like, state.params)
  state = state.replace(params=params)
  assert _loss(_make(pkeep=0.0), state, batch) == pytest.approx(
    math.log(11), rel=1e-4
  )


def test_pictures_of_few_boxes_are_not_learnt_from():
  layout = objects.Layout(64, 5, most=2, least=2, flags=("group",))
  task = _make(kinds.Scene(layout, _GRID))
  assert "box_flags" in task.batch_spec(4)
  batch, state = _batch(), _state(task)
  rows = np.full((4, frame.MAX_BOXES), -1, np.int32)
  rows[1:, 0] = rows[2:, 1] = 0  # of 0, 1, 2 and 2 boxes
  whole = np.float32([0.0, 0.0, 1.0, 1.0])
  batch |= {
    "boxes": jnp.tile(whole, (4, frame.MAX_BOXES, 1)),
    "box_labels": jnp.asarray(rows),
    "box_flags": jnp.zeros_like(rows),
    "crop": jnp.tile(whole, (4, 1)),
  }
  other = {**batch, "codes": batch["codes"].at[:2].set(0)}
  assert _loss(task, state, batch) == _loss(task, state, other)
  told = {**batch, "box_flags": batch["box_flags"].at[3, 0].set(1)}
  assert _loss(task, state, batch) != _loss(task, state, told)
  mask = {"mask": jnp.ones(4, bool)}
  found = tiny.jit(task.eval_step)(state, batch | mask, jax.random.key(0))
  assert found["elements"].tolist() == [12, 12, 12, 12]  # all are scored


def test_only_the_kernels_of_matrix_products_decay():
  task = _make(kinds.Known(_GRID, 11))
  state = _state(task)
  marked = trees.flatten(
    jax.tree.map(jnp.asarray, optimizer.kernels(state.params))
  )
  decays = {name.rsplit("/", 1)[-1]: bool(on) for name, on in marked.items()}
  assert decays == {
    "kernel": True,
    "bias": False,
    "scale": False,
    "embedding": False,
    "table": False,
    "start": False,
  }
  assert bool(marked["params/head/kernel"])
  # Without gradients only what decays moves.
  zeros = jax.tree.map(jnp.zeros_like, state.params)
  opt_state = task.tx.init(state.params)
  updates, _ = tiny.jit(task.tx.update)(zeros, opt_state, state.params)
  for name, update in trees.flatten(updates).items():
    assert bool(np.any(update)) == name.endswith("/kernel"), name


def test_step_trains_and_averages():
  task = _make(ema_decay=0.5, accumulate=2)
  state = _state(task)
  state = state.replace(opt_state=task.tx.init(state.params))
  step = tiny.jit(task.train_step)
  losses = []
  for _ in range(12):
    state, metrics = step(state, _batch(), jax.random.key(0))
    losses.append(float(metrics["train/loss"]))
  assert losses[-1] < 0.8 * losses[0] and int(state.step) == 12
  differs = jax.tree.map(
    lambda a, b: bool((a != b).any()), *[state.params, state.ema]
  )
  assert differs["params"]["head"]["kernel"]


def test_samples_keep_given_codes_and_obey_their_keys():
  task = _make(kinds.Known(_GRID, 11))
  state, batch = _state(task), _batch()
  codes = batch["codes"].astype(jnp.int32)
  keep = jnp.zeros((4, *_GRID), bool).at[:, :2].set(True)
  tokens = task.tokens(state.frozen, {"known": keep}, codes)
  given = prior_task.Given(batch["label"], tokens, codes, keep)
  keys = jax.random.split(jax.random.key(0), 4)

  @tiny.jit
  def draw(keys, given):
    read = task.sample(state, keys, given, known=6).tokens
    return read, task.sample(state, keys, given).tokens

  read, stepped = draw(keys, given)
  np.testing.assert_array_equal(read[:, :2], codes[:, :2])
  np.testing.assert_array_equal(read, stepped)
  other = draw(keys[::-1], jax.tree.map(lambda x: x[::-1], given))[0][::-1]
  np.testing.assert_array_equal(read, other)
  assert (read[:, 2:] != codes[:, 2:]).any()


def test_larger_samples_need_the_order_by_rows():
  task = _make(order="z_curve")
  with pytest.raises(ValueError, match="z_curve"):
    task.sample_large(
      _state(task), None, prior_task.Given(), _GRID, decode.Settings.create()
    )


def test_larger_samples_slide_over_the_condition():
  small = _make(kinds.Places(_GRID, 1, 63), model={"length": 30})
  large = _make(
    kinds.Places((6, 5), 1, 63),
    model={"length": 30},
    tokenizer=pixel_codes.Palette(11, (6, 5)),
  )
  state = _state(small)
  keys = jax.random.split(jax.random.key(0), 2)
  crop = {"crop": jnp.asarray([[0.0, 0, 1, 1]] * 2)}
  tokens = large.tokens(state.frozen, crop, None)
  given = prior_task.Given(label=jnp.zeros(2, jnp.int32), tokens=tokens)
  draw = tiny.jit(
    lambda keys, given: large.sample_large(state, keys, given, _GRID)
  )
  samples = draw(keys, given)
  assert samples.images.shape == (2, 6, 5, 3)
  other = given.replace(tokens=(tokens + 7) % 64)
  assert (draw(keys, other).tokens != samples.tokens).any()


@pytest.mark.parametrize("order", ["row", "spiral_in", "random"])
def test_token_is_told_to_the_code_at_its_place_in_any_order(order):
  condition = kinds.Known(_GRID, 11)
  beside = kinds.beside(condition, _GRID, order)
  # Without a layer a slot's logits are a function of its own input.
  task = _make(condition, {"layers": 0, "beside": beside}, order=order)
  state, batch = _state(task), _batch(1)
  sequence = task.sequence(batch["codes"].astype(jnp.int32))
  run = tiny.jit(
    lambda tokens: task.model.apply(
      state.params, sequence, tokens, batch["label"]
    )
  )
  tokens = task.tokens({}, {}, batch["codes"].astype(jnp.int32))
  logits = run(tokens)
  # The last token's own slot predicts the first code.
  for place in range(task.length - 1):
    other = run(tokens.at[0, place].set((tokens[0, place] + 1) % 12))
    moved = np.abs(np.asarray(logits - other)).max(-1) > 1e-4
    found = np.asarray(task.image_order(jnp.asarray(moved)))[0].reshape(-1)
    np.testing.assert_array_equal(found, np.arange(task.length) == place)
