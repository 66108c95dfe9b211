"""The two-optimiser step: who moves when, by which gradient, and exactly."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.vqgan import tiny
from training import checkpoint, metrics, sharding
from vqgan import discriminator, flops, losses, quantizer, step, task

KEY = jax.random.key(3)


def _equal(a, b):
  return jax.tree.all(
    jax.tree.map(lambda x, y: bool((np.asarray(x) == y).all()), a, b)
  )


def _assert_close(a, b, **tolerance):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


@pytest.fixture(scope="module")
def run():
  """Task, state of step 0, batch, and the jitted step."""
  made = tiny.make_task()
  return (
    made,
    tiny.make_state(made),
    tiny.make_batch(made),
    tiny.jit(made.train_step),
  )


def test_discriminator_rests_before_its_start_and_then_moves(run):
  _, state, batch, train_step = run
  before, told = train_step(state, batch, KEY)
  for part in ("params", "opt_state", "model_state"):
    old, new = (getattr(s, part)["discriminator"] for s in (state, before))
    assert _equal(old, new)
  assert not _equal(state.params["generator"], before.params["generator"])
  assert "adversary/generator_loss" not in metrics.values(told)
  after, told = train_step(state.replace(step=jnp.int32(2)), batch, KEY)
  for part in ("params", "opt_state", "model_state"):
    old, new = (getattr(s, part)["discriminator"] for s in (state, after))
    assert not _equal(old, new)
  assert "adversary/generator_loss" in metrics.values(told)


def _without_critic(state, batch):
  """The autoencoder after a step of a task that has no discriminator."""
  alone = tiny.make_task(critic=None)
  after, _ = tiny.jit(alone.train_step)(
    state.replace(
      params={"generator": state.params["generator"]},
      opt_state={"generator": state.opt_state["generator"]},
      model_state={"quantizer": state.model_state["quantizer"]},
    ),
    batch,
    KEY,
  )
  return after.params["generator"]


def test_autoencoder_gets_no_adversarial_gradient_before_the_start(run):
  _, state, batch, train_step = run
  expected = _without_critic(state, batch)
  actual, _ = train_step(state, batch, KEY)
  _assert_close(actual.params["generator"], expected, atol=1e-6)


def test_discriminator_learns_alone_during_its_warmup():
  critic = dataclasses.replace(tiny.CRITIC, start=0, warmup=2)
  made = tiny.make_task(critic)
  state, batch = tiny.make_state(made), tiny.make_batch(made)
  train_step = tiny.jit(made.train_step)
  expected = _without_critic(state, batch)
  after, told = train_step(state, batch, KEY)
  told = metrics.values(told)
  assert "adversary/discriminator_loss" in told
  assert "adversary/generator_loss" not in told
  _assert_close(after.params["generator"], expected, atol=1e-6)
  for part in ("params", "opt_state", "model_state"):
    old, new = (getattr(s, part)["discriminator"] for s in (state, after))
    assert not _equal(old, new)
  # After it the autoencoder learns from the discriminator.
  state = state.replace(step=jnp.int32(2))
  expected = _without_critic(state, batch)
  after, told = train_step(state, batch, KEY)
  assert "adversary/generator_loss" in metrics.values(told)
  moved = jax.tree.map(
    lambda x, y: float(np.abs(x - y).max()),
    after.params["generator"],
    expected,
  )
  assert max(jax.tree.leaves(moved)) > 1e-4


def test_gradient_is_that_of_the_written_loss(run):
  made, state, batch, _ = run
  pixels = made.pixels(batch)
  state = state.replace(step=jnp.int32(5))
  critic_state = state.model_state["discriminator"]
  kernel = ("decoder", "conv_out", "kernel")

  def parts(generator):
    image, _, _, quantized = made.apply(generator, pixels, train=True)
    reconstruction = jnp.abs(image - pixels).mean()
    logits, _ = made.adversary._logits(
      state.params["discriminator"], critic_state, image, KEY
    )
    return reconstruction, losses.generator(logits), quantized.loss

  @jax.jit
  def written(generator):
    norms = []
    for i in (0, 1):  # two whole backward passes, as the authors do
      grads = jax.grad(lambda g, i=i: parts(g)[i])(generator)
      for name in kernel:
        grads = grads[name]
      norms.append(jnp.linalg.norm(grads))
    balance = 0.8 * norms[0] / (norms[1] + 1e-4)
    grad = jax.grad(
      lambda g: sum(w * x for w, x in zip((1, balance, 1), parts(g)))
    )
    return grad(generator)

  ours = tiny.jit(
    lambda generator: jax.grad(step._autoencoder_loss, argnums=1, has_aux=True)(
      made, generator, state, critic_state, pixels, KEY
    )[0]
  )
  generator = state.params["generator"]
  _assert_close(ours(generator), written(generator), atol=2e-5, rtol=1e-3)


def test_step_has_one_backward_pass(run):
  made, state, batch, _ = run
  counted = flops.count(made.train_step, state, batch, KEY)
  # Written with two backward passes it would be 1.5 times as much.
  assert 0.9 < counted / made.train_flops(4) < 1.1


def test_resumed_run_equals_the_continued_one(run, tmp_path):
  _, state, batch, train_step = run
  for i in range(4):
    if i == 3:  # both optimisers have moved once
      checkpoint.Checkpointer(tmp_path).save(state, wait=True)
    state, _ = train_step(state, batch, KEY)
  mesh = sharding.make_mesh({}, jax.devices()[:1])
  shapes = jax.eval_shape(lambda state: state, state)
  restored = checkpoint.Checkpointer(tmp_path).restore(shapes, mesh)
  assert restored.step == 3
  again, _ = train_step(restored.state, batch, KEY)
  assert _equal(again, state)


def test_eight_devices_agree_with_one(run):
  made, state, _, train_step = run
  batch = tiny.make_batch(made, 8)
  state = state.replace(step=jnp.int32(2))
  mesh = sharding.make_mesh({"data": 4, "fsdp": 2})
  rule = sharding.FsdpRule(min_size=64)
  split = tiny.jit(made.train_step)(
    sharding.place(state, mesh, rule), sharding.place_batch(batch, mesh), KEY
  )
  (one, told), (eight, also) = train_step(state, batch, KEY), split
  _assert_close(
    metrics.values(told), metrics.values(also), rtol=2e-4, atol=1e-5
  )
  _assert_close(
    one.model_state["discriminator"],
    eight.model_state["discriminator"],
    rtol=1e-4,
    atol=1e-6,
  )
  _assert_close(
    one.model_state["quantizer"], eight.model_state["quantizer"], rtol=0
  )


def test_accumulated_pieces_give_the_gradient_of_the_batch():
  told = []
  for pieces in (1, 2):
    made = tiny.make_task(critic=None, accumulate=pieces)
    state, batch = tiny.make_state(made), tiny.make_batch(made)
    state, values = tiny.jit(made.train_step)(state, batch, KEY)
    told.append(metrics.values(values))
  _assert_close(*told, rtol=1e-4)
  made = tiny.make_task(critic=None, accumulate=3)
  with pytest.raises(ValueError, match=r"accumulate 3 must divide .* 4 rows"):
    jax.eval_shape(made.train_step, state, batch, KEY)


def test_options_of_the_adversary_run_and_are_told():
  critic = dataclasses.replace(
    tiny.CRITIC,
    start=0,
    loss="vanilla",
    same_forward=False,
    freeze_codebook=True,
    augment=("color", "translation", "cutout"),
    lecam=0.1,
    r1=1.0,
    r1_every=2,
  )
  made = tiny.make_task(critic, accumulate=2, ema_decay=0.9)
  state, batch = tiny.make_state(made), tiny.make_batch(made)
  after, told = tiny.jit(made.train_step)(state, batch, KEY)
  told = metrics.values(told)
  assert told["adversary/r1"] > 0 and "adversary/lecam" in told
  assert after.model_state["discriminator"]["lecam"]["real"] != 0
  codes = lambda tree: tree["generator"]["quantizer"]
  assert _equal(codes(state.params), codes(after.params))
  assert not metrics.nonfinite(metrics.to_host(told))


@pytest.mark.parametrize("average", [False, True])
def test_frozen_codes_rest_in_the_average_too(average):
  critic = dataclasses.replace(tiny.CRITIC, start=0, freeze_codebook=True)
  codes = quantizer.Nearest(16, 3, average=average, dead_after=1)
  made = tiny.make_task(critic, codes, ema_decay=0.9)
  state, batch = tiny.make_state(made), tiny.make_batch(made)
  after = state
  for _ in range(3):  # enough for restarts of codes that are not used
    after, _ = tiny.jit(made.train_step)(after, batch, KEY)
  held = lambda tree: tree["generator"]["quantizer"]
  _assert_close(held(state.params), held(after.params), atol=0)
  _assert_close(held(state.ema), held(after.ema), atol=1e-6)
  for name in ("counts", "sums"):
    if average:
      counters = (x.model_state["quantizer"][name] for x in (state, after))
      assert _equal(*counters)


def test_codebook_starts_on_latents_of_the_data():
  made = tiny.make_task(critic=None)
  state = tiny.make_state(made)
  seeds = made.measure([tiny.make_batch(made, 16, seed=9)])["seeds"]
  assert seeds.shape[0] == 16
  encode = tiny.jit(lambda *args: made.apply(*args, method="encode"))
  z = encode(state.params["generator"], made.pixels({"image": seeds}))
  codebook = state.params["generator"]["quantizer"]["codebook"]
  distances = jnp.abs(z.reshape(-1, 1, 3) - codebook).max(-1)  # [n, v]
  assert (distances.min(0) < 1e-5).all()
  with pytest.raises(ValueError, match="the split is empty"):
    made.measure([])


def test_codebook_sees_the_whole_of_a_sorted_dataset():
  made = tiny.make_task(critic=None)
  kind = np.repeat(np.arange(4, dtype=np.uint8), 50)
  rows = np.broadcast_to(kind[:, None, None, None], (200, 16, 16, 3))
  batches = [
    {"image": part, "mask": np.ones(20, bool)} for part in np.split(rows, 10)
  ]
  seeds = made.measure(batches)["seeds"]
  assert seeds.shape == (16, 16, 16, 3)
  assert np.bincount(seeds[:, 0, 0, 0]).min() >= 3


@pytest.mark.parametrize(
  "codes",
  [
    quantizer.Gumbel(16, 3),
    quantizer.Nearest(16, 3, average=True),
    quantizer.Finite((4, 4)),
    quantizer.Nearest(16, 3),
    quantizer.Nearest(16, 3, unit=True),
  ],
  ids=["gumbel", "average", "finite", "nearest", "unit"],
)
def test_every_quantizer_trains_and_counts_its_codes(codes):
  made = tiny.make_task(critic=None, quantizer=codes, ema_decay=0.9)
  state, batch = tiny.make_state(made), tiny.make_batch(made)
  state, told = tiny.jit(made.train_step)(state, batch, KEY)
  told = metrics.values(told)
  assert {"codes/used", "codes/perplexity", "codes/dead"} <= set(told)
  assert told["codes/used"] > 1 and np.isfinite(told["train/loss"])
  counts = tiny.jit(made.count_codes)(state, batch)
  assert counts.sum() == 4 * 8 * 8


def test_segmentations_train_by_cross_entropy():
  shape = dataclasses.replace(tiny.SHAPE, in_channels=5)
  made = tiny.make_task(
    critic=None, shape=shape, target="segmentation", adversary=None
  )
  state, batch = tiny.make_state(made), tiny.make_batch(made)
  assert batch["segmentation"].shape == (4, 16, 16)
  train_step = tiny.jit(made.train_step)
  first = None
  for _ in range(24):
    state, told = train_step(state, batch, KEY)
    first = first or metrics.values(told)
  last = metrics.values(told)
  assert last["train/nats_per_label"] < 0.9 * first["train/nats_per_label"]
  rows = jax.eval_shape(made.eval_step, state, batch, KEY)
  assert set(rows) == {"accuracy", "nats_per_label", "quantization_error"}
  assert jax.eval_shape(made.reconstruct, state, batch).shape == (4, 16, 16, 3)


@pytest.mark.parametrize(("side", "at_once"), [(8, 5), (16, 2), (64, 1)])
def test_images_that_seed_the_codebook_are_encoded_by_their_size(
  side, at_once, monkeypatch
):
  monkeypatch.setattr(task, "_SEED_PIXELS", 2 * 16**2)
  made = tiny.make_task(critic=None, size=(side, side))
  rows = jnp.zeros((5, side, side, 3), jnp.uint8)
  generator = jax.eval_shape(
    lambda: made.model.init(KEY, jnp.zeros((1, side, side, 3)))["params"]
  )
  program = jax.make_jaxpr(made._latents)(generator, rows)
  assert program.out_avals[0].shape == (5 * (side // 2) ** 2, 3)
  # What a convolution makes: [images at once, rows, columns, channels].
  found = re.findall(r"f32\[(\d+),\d+,\d+,4\] = conv", str(program))
  assert found and max(map(int, found)) == at_once


def test_a_discriminator_of_label_maps_is_refused():
  shape = dataclasses.replace(tiny.SHAPE, in_channels=5)
  with pytest.raises(ValueError, match="judges images, not label maps"):
    tiny.make_task(shape=shape, target="segmentation")


@pytest.mark.parametrize(
  ("layers", "size", "remedy"),
  [
    (3, (16, 16), "set --config.adversary.num_layers=2"),
    (3, (64, 20), "set --config.adversary.num_layers=2"),
    (4, (8, 8), "set --config.adversary.num_layers=1"),
    (1, (4, 4), "enlarge data.size, or set --config.adversary.weight=0"),
    (3, (24, 24), None),
  ],
)
def test_a_discriminator_that_has_no_logit_is_refused(layers, size, remedy):
  critic = dataclasses.replace(
    tiny.CRITIC, critic=discriminator.Discriminator(4, layers)
  )
  tiny.make_task(critic, size=size)  # runs from before are opened
  if remedy is None:
    critic.check(size, 3)
    return
  said = f"images of {size[0]}x{size[1]} leave a discriminator of {layers} "
  with pytest.raises(ValueError, match=said + f"layers no logit: {remedy}$"):
    critic.check(size, 3)


def test_labels_beyond_the_classes_are_refused():
  shape = dataclasses.replace(tiny.SHAPE, in_channels=5)
  made = tiny.make_task(critic=None, shape=shape, target="segmentation")
  batch = {"segmentation": np.full((2, 16, 16), 4, np.uint8)}
  batch |= {"example_id": np.int32([7, 8])}
  assert made.measure([batch])["seeds"].shape == (2, 16, 16)
  batch["segmentation"][1, 0, 0] = 255
  said = r"example 8 holds class 255, of data.num_labels 5"
  with pytest.raises(ValueError, match=said):
    made.measure([batch])


def test_depth_of_16_bits_is_scaled_to_one():
  shape = dataclasses.replace(tiny.SHAPE, in_channels=1)
  made = tiny.make_task(critic=None, shape=shape, bits=16)
  assert made.batch_spec(2)["image"].dtype == jnp.uint16
  rows = np.asarray([[[[0], [65535]]]], np.uint16)
  assert list(made.pixels({"image": rows}).ravel()) == [-1, 1]
  assert made.picture(jnp.zeros((1, 2, 2, 1))).shape == (1, 2, 2, 3)


def test_evaluation_measures_rows_and_leaves_out_padding(run):
  made, state, batch, _ = run
  rows = tiny.jit(made.eval_step)(
    state, {**batch, "mask": np.arange(4) < 2}, KEY
  )
  assert set(rows) == {"l1", "psnr_db", "quantization_error"}
  for values in rows.values():
    assert values.shape == (4,)
    assert (values[:2] > 0).all() and (values[2:] == 0).all()
  image = tiny.jit(made.reconstruct)(state, batch)
  mse = np.mean((np.asarray(image[:1], float) - batch["image"][:1]) ** 2)
  psnr = 10 * np.log10(255**2 / mse)
  np.testing.assert_allclose(rows["psnr_db"][0], psnr, atol=0.05)


def test_lpips_is_asked_for_and_refused_where_it_makes_no_sense():
  made = tiny.make_task(critic=None, perceptual=1.0, seed_codebook=False)
  with pytest.raises(ValueError, match=r"set loss.perceptual to 0"):
    jax.eval_shape(made.init, jax.random.key(0), {})
  shape = dataclasses.replace(tiny.SHAPE, in_channels=5)
  with pytest.raises(ValueError, match="1 or 3 channels"):
    tiny.make_task(shape=shape, perceptual=1.0)
  with pytest.raises(ValueError, match="multiples of the factor 2"):
    tiny.make_task(size=(15, 16))
