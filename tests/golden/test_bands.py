"""The loss of a tiny DCTransformer stays in the band that was recorded.

300 steps on pictures drawn by NumPy, batches and first parameters by NumPy too,
so that the curve depends on the model, its loss and its optimiser, and on the
platform only by rounding. `dctransformer.json` holds the curves; after a change
that is meant to move them

    python -m tests.golden.test_bands

records them anew. Look at the difference before you commit it.

The band is narrower than that of `launch.curves`, which compares runs of
different randomness: in that one a model that ignored its label, or the picture
before the chunk, went unnoticed.
"""

import functools
import json
import pathlib

import jax
import numpy as np
import optax
import pytest

from data import arrays as data_arrays
from dctransformer import arrays, dct
from tests.dctransformer import tiny
from training import environment

FILE = pathlib.Path(__file__).with_name("dctransformer.json")
STEPS = 300
FIRST = 30  # steps that are short enough for every run of the tests
EVERY = 5  # steps that a point is the mean of
BATCH = 16
PEAK = 3e-3
METRICS = (
  "train/loss",
  "train/bits_channel",
  "train/bits_position",
  "train/bits_value",
)
# Half width of the band: a fraction of the curve plus so many nats or bits.
TOLERANCE = 0.02


@pytest.fixture(scope="module")
def reference():
  content = json.loads(FILE.read_text())
  recorded = {name: np.array(x) for name, x in content["curves"].items()}
  return recorded, content["tolerance"]


def test_first_points_stay_in_their_bands(reference):
  recorded, tolerance = reference
  first = {name: curve[: FIRST // EVERY] for name, curve in recorded.items()}
  found = _train(steps=FIRST)
  assert _strays(found, first, tolerance) == []
  # Rounding has not had the time to grow.
  for name in METRICS:
    np.testing.assert_allclose(found[name][:2], first[name][:2], rtol=1e-3)


@pytest.mark.slow
def test_curves_stay_in_their_bands(reference):
  assert _strays(_train(), *reference) == []


@pytest.mark.slow
@pytest.mark.parametrize(
  "change",
  [{"peak": PEAK / 2}, {"blind": True}, {"class_drop": 1.0}],
  ids=["half the rate", "no picture before the chunk", "no label"],
)
def test_bands_notice(change, reference):
  assert _strays(_train(**change), *reference)


def record() -> None:
  """Write the curves of this code into the file."""
  found = _train()
  content = {
    "versions": environment.versions(),
    "tolerance": TOLERANCE,
    "every": EVERY,
    "curves": {
      name: [round(float(x), 5) for x in found[name]] for name in METRICS
    },
  }
  lines = json.dumps(content, indent=2).replace(",\n      ", ", ")
  FILE.write_text(
    lines.replace("[\n      ", "[").replace("\n    ]", "]") + "\n"
  )


def _strays(found, recorded, tolerance):
  """Names of the metrics that leave their bands anywhere."""
  return [
    name
    for name in METRICS
    if not np.allclose(found[name], recorded[name], tolerance, tolerance)
  ]


def _train(steps=STEPS, peak=PEAK, blind=False, **changes):
  """Train; returns the means of every `EVERY` steps, [n] a metric."""
  task = tiny.make_task(optax.adam(peak), **changes)
  state, key = tiny.init_task(task), jax.random.key(0)
  if blind:
    far = 1e6 * state.frozen["channel_std"]
    state = state.replace(frozen={"channel_std": far})
  step = jax.jit(task.train_step, donate_argnums=0)
  encode = arrays.make_train_encode(task.codec, task.plan, resize=None)
  batches = data_arrays.train_batches(
    data_arrays.Arrays(*_pictures(task.codec)),
    encode,
    batch_size=BATCH,
    seed=0,
  )
  found = {name: [] for name in METRICS}
  for _ in range(steps):
    state, metrics = step(state, next(batches), key)
    metrics = jax.device_get({name: metrics[name] for name in METRICS})
    for name, mean in metrics.items():
      found[name].append(_value(mean))
  return {
    name: np.reshape(values, (-1, EVERY)).mean(axis=1)
    for name, values in found.items()
  }


def _value(metric):
  return metric.value() if hasattr(metric, "value") else metric


@functools.cache
def _pictures(codec: dct.Codec):
  """Draw 48 pictures: the label decides the colour, a stripe the rest."""
  generator = np.random.default_rng(0)
  side, count = codec.rows * codec.block, 48
  labels = np.arange(count) % 3
  colors = np.array([[210, 60, 40], [40, 190, 70], [50, 80, 220]])
  y, x = np.mgrid[:side, :side] / side
  angle, phase, light = generator.uniform(0, 1, (3, count, 1, 1))
  across = np.cos(np.pi * angle) * x + np.sin(np.pi * angle) * y
  stripe = 60 * np.sin(2 * np.pi * (2 * across + phase)) + 60 * (light - 0.5)
  pictures = colors[labels][:, None, None] + stripe[..., None]
  return np.clip(np.round(pictures), 0, 255).astype(np.uint8), labels


if __name__ == "__main__":
  record()
