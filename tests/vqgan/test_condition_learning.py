"""Small priors learn every condition: their samples obey it, by their pixels.

Scenes of 8 x 8 pixels in the 32 colours of a palette. The foreground of a
sample is compared with that of the picture that its condition was taken from,
and with that of another picture: what a model that ignores it would get.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import reduce

from data.scenes import render, rules, scene
from tests.vqgan import tiny_prior
from training import optimizer
from vqgan import decode, frame, pixel_codes, prior_task
from vqgan.conditions import kinds, maps, objects

pytestmark = pytest.mark.slow

_SIDE, _GRID, _COLOURS = 32, (8, 8), 32
_SIZE = (_SIDE, _SIDE)
_TRAINED, _HELD_OUT = 768, 64

_CONDITIONS = {
  "class": kinds.Nothing(),
  "segmentation": maps.Map("segmentation", _SIZE, _GRID, num_labels=25),
  "depth": maps.Map("depth", _SIZE, _GRID, levels=32),
  "edges": maps.Map("edges", _SIZE, _GRID),
  "lowres": maps.Map("lowres", _SIZE, (4, 4), levels=6),
  "keypoints": maps.Map("keypoints", _SIZE, _GRID, levels=2),
  "boxes": kinds.Scene(objects.Layout(512, 24, most=4), _SIZE),
  "points": kinds.Scene(objects.Layout(512, 24, points=True, most=4), _SIZE),
  "completion": kinds.Known(_GRID, _COLOURS),
}
# How much more the foregrounds overlap than those of other pictures.
_GAIN = {"points": 1.5, "lowres": 1.5}


@functools.cache
def _dataset():
  """Return (arrays of all scenes, the palette)."""
  most = frame.MAX_BOXES
  rows = []
  for i in range(_TRAINED + _HELD_OUT):
    drawn = render.render(scene.draw(0, i), _SIDE)
    spare = most - len(drawn.boxes)
    rows.append(
      {
        "image": drawn.image,
        "segmentation": drawn.segmentation,
        "depth": drawn.depth,
        "boxes": np.pad(drawn.boxes, ((0, spare), (0, 0))),
        "box_labels": np.pad(drawn.box_labels, (0, spare), constant_values=-1),
        "crop": np.float32([0, 0, 1, 1]),
        "label": np.int32(drawn.label),
      }
    )
  arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
  small = reduce(
    arrays["image"].astype(np.float32),
    "b (h i) (w j) c -> b h w c",
    "mean",
    h=_GRID[0],
    w=_GRID[1],
  )
  small = np.rint(small).astype(np.uint8)
  fitted = pixel_codes.fit(small.reshape(-1, 3), _COLOURS, jax.random.key(0))
  coder = pixel_codes.Palette(_COLOURS, _GRID)
  arrays["codes"] = np.asarray(coder.encode(fitted, jnp.asarray(small)))
  return arrays, fitted


def _learn(condition, num_steps=400, beside=(), prefixed=True):
  """Train a small prior; return (task, state)."""
  arrays, fitted = _dataset()
  by_class = not condition.vocabulary
  task = prior_task.PriorTask(
    model=tiny_prior.make(
      num_codes=_COLOURS,
      num_conditions=condition.vocabulary,
      num_classes=24 if by_class else 0,
      class_scale=0.2,
      beside=beside,
      prefixed=prefixed,
      length=condition.length + 64,
      layers=3,
      width=64,
      heads=4,
    ),
    tokenizer=pixel_codes.Palette(_COLOURS, _GRID),
    condition=condition,
    tx=optimizer.make(
      name="adamw",
      peak=3e-3,
      warmup_steps=20,
      total_steps=num_steps,
      decay_mask=optimizer.kernels,
    ),
    ema_decay=0.98,
    from_codes=True,
  )
  measured = {"tokenizer/palette": fitted["palette"]}
  state = jax.jit(task.init)(jax.random.key(0), measured)
  step = jax.jit(task.train_step, donate_argnums=0)
  random = np.random.default_rng(0)
  names = ("codes", "label", *condition.fields)
  for _ in range(num_steps):
    chosen = random.integers(0, _TRAINED, 16)
    batch = {name: jnp.asarray(arrays[name][chosen]) for name in names}
    state, _ = step(state, batch, jax.random.key(1))
  return task, state


def _overlap(images, others):
  """Return the mean intersection over union of two sets' foregrounds."""
  a, b = rules.foreground(images), rules.foreground(others)
  both, either = (a & b).sum((1, 2)), (a | b).sum((1, 2))
  return float(np.mean(both / np.maximum(either, 1)))


def _draw(task, state):
  """Return (samples given what held-out pictures give, those pictures)."""
  arrays, fitted = _dataset()
  held = {name: jnp.asarray(x[_TRAINED:]) for name, x in arrays.items()}
  codes = held["codes"]

  @jax.jit
  def draw(state, keys):
    tokens = task.tokens(state.frozen, held, codes)
    given = prior_task.Given(label=held["label"], tokens=tokens)
    if isinstance(task.condition, kinds.Known):
      keep = jnp.arange(8)[:, None] < 4
      keep = jnp.broadcast_to(keep, codes.shape)
      given = given.replace(codes=codes, keep=keep)
    return task.sample(state, keys, given, decode.Settings.create(0.9)).images

  keys = jax.random.split(jax.random.key(2), _HELD_OUT)
  real = task.tokenizer.decode(fitted, codes)
  return np.asarray(draw(state, keys)), np.asarray(real)


@pytest.mark.parametrize("kind", _CONDITIONS)
def test_samples_obey_what_they_were_given(kind):
  drawn, real = _draw(*_learn(_CONDITIONS[kind]))
  if kind == "class":
    wanted = _dataset()[0]["label"][_TRAINED:] // len(scene.SHAPES)
    right = np.mean(rules.colour(drawn) == wanted)
    shuffled = np.mean(rules.colour(drawn) == np.roll(wanted, 1))
    print(f"{kind}: colour right {right:.2f}, shuffled {shuffled:.2f}")
    assert right > 0.8 > 2 * shuffled
    return
  if kind == "completion":
    drawn, real = drawn[:, 4:], real[:, 4:]
  obeyed, shuffled = _overlap(drawn, real), _overlap(drawn, np.roll(real, 1, 0))
  print(f"{kind}: overlap {obeyed:.2f}, shuffled {shuffled:.2f}")
  assert obeyed > _GAIN.get(kind, 2.0) * shuffled


def test_map_that_is_told_beside_the_codes_is_obeyed_sooner():
  condition = _CONDITIONS["segmentation"]
  beside = kinds.beside(condition, _GRID, "row")
  overlap = lambda *ways: _overlap(*_draw(*_learn(condition, 150, *ways)))
  prefix, both, alone = overlap(), overlap(beside), overlap(beside, False)
  print(f"overlap by prefix {prefix:.2f}, both {both:.2f}, beside {alone:.2f}")
  assert min(both, alone) > 0.4 > 2 * prefix  # once 0.58, 0.58, 0.15
