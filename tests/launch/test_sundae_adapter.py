"""The adapter of SUNDAE: what reaches the model, and pictures given to it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import turns
from evaluation import likelihood
from launch import errors, evaluators, flags, request, tasks
from launch.adapters import sundae, sundae_sampling
from tests.sundae import tiny


def _task(overrides):
  config = flags.load("configs/sundae_scenes.py:tiny", list(overrides.items()))
  return sundae.make_task(config, tasks.measured_or_assumed(sundae, config))


def test_every_field_of_the_model_reaches_it():
  overrides = {
    "data.size": "32,64",
    "model.layers": "1,2,0",
    "model.width": "48",
    "model.heads": "3",
    "model.head_width": "8",
    "model.resampling": "none",
    "model.reference": "True",
    "model.num_classes": "5",
    "model.class_drop": "0.25",
    "model.attention": "cudnn",
    "train.unrolls": "4",
    "train.accumulate": "2",
    "train.remat": "True",
    "optimizer.ema_decay": "0.5",
  }
  made = _task(overrides)
  net, shape = made.model, made.model.shape
  assert (net.grid, net.num_codes) == ((8, 16), 256)
  assert (net.layers, net.factors) == ((1, 2, 0), ((2, 2),))
  assert (shape.width, shape.num_heads, shape.head_width) == (48, 3, 8)
  assert (net.resampling, net.reference) == ("none", True)
  assert (net.num_classes, made.class_drop) == (5, 0.25)
  assert (shape.implementation, shape.remat) == ("cudnn", True)
  assert (shape.gate, shape.qkv_bias, shape.epsilon) == (None, False, 1e-5)
  assert (made.unrolls, made.accumulate, made.ema_decay) == (4, 2, 0.5)
  assert not _task({"model.reference": "False"}).model.reference


@pytest.mark.parametrize("decays", ["kernels", "all"])
def test_only_what_decays_moves_without_gradients(decays):
  tx = _task({"optimizer.decays": decays, "optimizer.weight_decay": "0.5"}).tx
  params = {
    "table": {"embedding": jnp.ones(2)},
    "dense": {"kernel": jnp.ones(2)},
  }
  zeros = jax.tree.map(jnp.zeros_like, params)
  updates, _ = tx.update(zeros, tx.init(params), params)
  assert updates["dense"]["kernel"].any()
  assert updates["table"]["embedding"].any() == (decays == "all")


def test_unknown_choice_of_what_decays_is_refused():
  with pytest.raises(errors.CommandError, match="Did you mean kernels"):
    _task({"optimizer.decays": "kernel"})


def test_evaluation_is_of_codes_and_shares_by_unroll():
  made = tiny.make_task(unrolls=2)
  state, key = tiny.init_task(made), jax.random.key(0)
  batch = {**tiny.batch(4), "mask": jnp.array([True, True, True, False])}
  rows = jax.jit(made.eval_step)(state, batch, key)
  sums = likelihood.measure(made.eval_step, state, [batch], key)
  found = evaluators.rates(sums, sundae)
  assert set(found) == {
    f"{name}_unroll_{t}"
    for name in ("nats_per_code", "right_fraction")
    for t in (1, 2)
  }
  for t in (1, 2):
    for name, short in (("nats_per_code", "nats"), ("right_fraction", "right")):
      expected = rows[f"{short}_unroll_{t}"].sum() / (3 * 16)
      np.testing.assert_allclose(
        found[f"{name}_unroll_{t}"], expected, rtol=1e-5
      )
    assert 0 <= found[f"right_fraction_unroll_{t}"] <= 1


def test_every_setting_of_a_request_reaches_the_steps():
  config = flags.load("configs/sundae_scenes.py:tiny")
  asked = {
    "steps": 7,
    "min_steps": 3,
    "agreed": False,
    "temperature": 0.9,
    "end_temperature": 0.4,
    "proportion": 0.3,
    "end_proportion": 0.8,
    "top_k": 11,
    "top_p": 0.6,
    "guidance": 2.5,
    "confident": True,
    "confidence_noise": 0.25,
    "argmax": False,
  }
  made = sundae_sampling.make_settings(request.from_config(config, **asked))
  for name in ("temperature", "proportion"):
    asked[name] = (asked[name], asked.pop(f"end_{name}"))
  for name, value in asked.items():
    np.testing.assert_allclose(getattr(made, name), value, err_msg=name)
  # Alone, one is that of the last step too.
  alone = request.from_config(config, temperature=0.2, proportion=0.7)
  made = sundae_sampling.make_settings(alone)
  np.testing.assert_allclose(made.temperature, 0.2)
  np.testing.assert_allclose(made.proportion, 0.7)


def test_noise_on_the_order_belongs_to_confidence():
  config = flags.load("configs/sundae_scenes.py:tiny")
  with pytest.raises(ValueError, match="ask for confident too"):
    request.from_config(config, confidence_noise=0.0)


def test_config_of_an_older_run_means_what_it_meant():
  config = flags.load("configs/sundae_scenes.py:tiny")
  assert config.model.places == "middles" and config.sample.agreed
  with config.unlocked():
    del config.sample["confidence_noise"], config.sample["agreed"]
    del config.model["places"]
  made = sundae_sampling.make_settings(request.from_config(config))
  assert made.confidence_noise == 1 and not made.agreed
  assert sundae.make_model(config, {}, (8, 8), 64).places == "corners"


def _given(known):
  image = np.zeros((*known.shape, 3), np.uint8)
  asked = request.Request(given="inpaint", image=image, known=known)
  # 4 x 4 codes of 2 x 2 pixels.
  return sundae_sampling.read_given(tiny.make_task(), asked, tiny.GRID)


@pytest.mark.parametrize("side", [4, 8, 16, 20, 24, 32, 200])
def test_half_a_picture_keeps_half_the_codes_at_any_size(side):
  known = np.broadcast_to(np.arange(side) < side // 2, (side, side))
  given = _given(known)
  assert (given.known == (np.arange(8) < 4)).all()
  assert (given.keep == (np.arange(4) < 2)).all()


@pytest.mark.parametrize("side", [9, 12, 15, 20, 31, 64])
def test_no_hole_is_too_thin_to_be_seen(side):
  for column in range(side):
    known = np.ones((side, side), bool)
    known[:, column] = False
    missing = np.flatnonzero(~_given(known).known.all(axis=0))
    assert missing.tolist() == [(column * 8 + 4) // side]


def test_mask_is_cut_as_the_picture_is():
  known = np.ones((16, 32), bool)
  known[:, 8:10] = False  # the first that is seen
  assert np.flatnonzero(~_given(known).known.all(axis=0)).tolist() == [0]
  with pytest.raises(ValueError, match="leaves nothing to make"):
    _given(np.broadcast_to(np.arange(32) >= 8, (16, 32)))


def test_mask_of_another_size_than_the_picture_is_refused():
  image = np.zeros((8, 8, 3), np.uint8)
  for known in (None, np.ones((4, 4), bool)):
    asked = request.Request(given="inpaint", image=image, known=known)
    with pytest.raises(ValueError, match="of the size of the given picture"):
      sundae_sampling.read_given(tiny.make_task(), asked, tiny.GRID)


@pytest.mark.parametrize("target", ["depth", "segmentation"])
def test_maps_are_not_read_as_pictures(target):
  like = {"target": target, "num_labels": "4"}
  fields = {f"tokenizer.like.data.{name}": x for name, x in like.items()}
  made = _task({"tokenizer.weights": "", **fields})
  known = np.zeros((32, 32), bool)
  image = np.zeros((32, 32, 3), np.uint8)
  asked = request.Request(given="inpaint", image=image, known=known)
  with pytest.raises(ValueError, match="only models of pictures can inpaint"):
    sundae_sampling.read_given(made, asked, made.model.grid)


def _outpainted(at, size=(12, 20)):
  """Return the shades [4, 4] of a picture, and what is drawn around it."""
  config = flags.load("configs/sundae_scenes.py:tiny")
  made = tiny.make_task(class_drop=0.1)
  shades = np.random.default_rng(0).integers(0, 7, (4, 4))
  pixels = np.kron(10 * shades, np.ones((2, 2), int)).astype(np.uint8)
  asked = request.from_config(
    config,
    given="inpaint",
    image=np.repeat(pixels[..., None], 3, axis=-1),
    known=np.ones((8, 8), bool),
    size=size,
    at=at,
    steps=2,
  )
  sampler = sundae.make_requested_sampler(
    config, made, {}, jax.random.key(0), asked
  )
  drawn = sampler(tiny.init_task(made), np.arange(2, dtype=np.int32))
  return shades, np.asarray(drawn.tokens), np.asarray(drawn.info["given"])


@pytest.mark.parametrize(
  ("at", "corner"),
  [((0, 0), (0, 0)), ((4, 12), (2, 6)), ((2, 6), (1, 3)), (None, (1, 3))],
)
def test_outpainting_keeps_the_picture_where_it_is_asked_to_lie(at, corner):
  shades, tokens, given = _outpainted(at)
  top, left = corner
  kept = tokens[:, top : top + 4, left : left + 4]
  np.testing.assert_array_equal(kept, np.stack([shades] * 2))
  shown = given[0, ::2, ::2, 0]
  np.testing.assert_array_equal(
    shown[top : top + 4, left : left + 4], 10 * shades
  )
  assert (shown == 127).sum() == 6 * 10 - 16  # all else is to be made


@pytest.mark.parametrize("at", [(1, 0), (0, 3), (-2, 0), (6, 0), (0, 14)])
def test_picture_cannot_lie_between_codes_or_beyond_the_canvas(at):
  with pytest.raises(ValueError, match="in steps of 2 from 0,0 to 4,12"):
    _outpainted(at)


class _Follower:
  """A model that draws code 20 where it sees it four times, else code 0."""

  grid, num_codes, num_classes = tiny.GRID, 26, 0

  def apply(self, params, codes, label):
    """Return logits [b, h, w, v]."""
    seen = (codes == 20).sum((1, 2), keepdims=True) >= 4
    return 9e9 * jax.nn.one_hot(jnp.where(seen, 20 + 0 * codes, 0), 26)


def test_far_outpainting_goes_on_from_the_picture():
  config = flags.load("configs/sundae_scenes.py:tiny")
  made = tiny.make_task()
  asked = request.from_config(
    config,
    given="inpaint",
    image=np.full((8, 8, 3), 200, np.uint8),  # code 20
    known=np.ones((8, 8), bool),
    size=(24, 24),
    steps=2,
    temperature=0.0,
    proportion=1.0,
  )
  sampler = sundae.make_requested_sampler(
    config,
    dataclasses.replace(made, model=_Follower()),
    {},
    jax.random.key(0),
    asked,
  )
  samples = sampler(tiny.init_task(made), np.arange(2, dtype=np.int32))
  assert (samples.tokens == 20).all()


@pytest.mark.parametrize(
  ("drop", "given", "labels", "expected"),
  [
    (0.0, None, None, [0, 1]),
    (0.0, "inpaint", (1,), [1]),
    (0.1, "inpaint", None, [2]),
    (0.0, "inpaint", None, None),
  ],
)
def test_class_of_a_given_picture_is_never_guessed(
  drop, given, labels, expected
):
  config = flags.load("configs/sundae_scenes.py:tiny")
  made, known = tiny.make_task(class_drop=drop), np.zeros((8, 8), bool)
  asked = request.from_config(config, given=given, labels=labels)
  if given:
    asked = dataclasses.replace(
      asked, image=np.zeros((8, 8, 3), np.uint8), known=known
    )
  make = lambda: sundae.make_requested_sampler(
    config, made, {}, jax.random.key(0), asked
  )
  if expected is None:
    with pytest.raises(ValueError, match=r"which of the 2 classes.*--labels=K"):
      make()
    return
  samples = make()(tiny.init_task(made), np.arange(2, dtype=np.int32))
  assert sorted({*samples.info["label"].tolist()}) == expected


def test_another_seed_setting_or_picture_compiles_nothing_anew():
  config = flags.load("configs/sundae_scenes.py:tiny")
  made = tiny.make_task(class_drop=0.1)
  state, indices = tiny.init_task(made), np.arange(4, dtype=np.int32)

  def draw(seed, labels, hole, **fields):
    rng = np.random.default_rng(seed)
    known = np.ones((8, 8), bool)
    known[hole] = False
    asked = request.from_config(
      config,
      given="inpaint",
      image=rng.integers(0, 60, (8, 8, 3), np.uint8),
      known=known,
      labels=labels,
      **fields,
    )
    sampler = sundae.make_requested_sampler(
      config, made, {}, jax.random.key(seed), asked
    )
    return sampler(state, indices)

  first = draw(0, (0,), np.s_[:4], steps=3)
  with turns.count_compilations() as later:
    other = draw(
      1, (1, 0, 2), np.s_[:, 2:], steps=5, temperature=0.7, confident=True
    )
    back = draw(1, (1,), np.s_[:4], composite=True)
  assert later[0] == 0
  assert other.info["label"].tolist() == [1, 0, 2, 1]
  assert (back.images[:, 4:] == back.info["given"][:, 4:]).all()
  assert (first.tokens[:, 2:] == first.tokens[:1, 2:]).all()
  assert (other.tokens[:, :, 0] == other.tokens[:1, :, 0]).all()
  assert (first.tokens != other.tokens).any()


def test_history_is_decoded_step_by_step():
  made = tiny.make_task()
  state = tiny.init_task(made)
  history = np.asarray(tiny.codes(6)).reshape(2, 3, *tiny.GRID)
  shown = sundae_sampling.decode_history(made, state, history)
  assert shown.shape == (2, 3, 8, 8, 3) and shown.dtype == np.uint8
  for t in range(3):
    expected = jax.device_get(made.decode({}, history[:, t]))
    np.testing.assert_array_equal(shown[:, t], expected)
