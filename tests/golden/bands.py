"""Golden bands: curves of tiny runs, recorded, and how far a run may stray.

A run is a function of its numbers alone: data, batches and first parameters are
drawn by NumPy, so that the curves depend on the model, its loss and its
optimiser, and on the platform only by rounding. A point of a curve is the mean
of `EVERY` steps; nan where a metric counts nothing, as a discriminator's before
its start.
"""

import dataclasses
import json
import pathlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from training import environment, optimizer
from training import metrics as metrics_lib

EVERY = 5


@dataclasses.dataclass(frozen=True)
class Run:
  """A tiny run whose curves are recorded.

  Attributes:
    name: of the file that holds them.
    begin: changes -> (task, state, batches) of step 0.
    tolerances: by metric, the half width of its band: so large a fraction of
      the curve, plus as many nats, bits or what its unit is.
    changes: by name, what the bands have to notice: arguments of `begin`.
    steps: of the curves.
    first: those that are short enough for every run of the tests.
  """

  name: str
  begin: Callable[..., tuple[Any, Any, Any]]
  tolerances: Mapping[str, float]
  changes: Mapping[str, Mapping[str, Any]]
  steps: int = 150
  first: int = 30


def adamw(peak, steps, **changes):
  """Return the optimiser of models of codes, as in their configs, but short."""
  fields = {
    "warmup_steps": 10,
    "weight_decay": 0.01,
    "decay_mask": optimizer.kernels,
    "clip_norm": 1.0,
    **changes,
  }
  return optimizer.make(name="adamw", peak=peak, total_steps=steps, **fields)


def curves(run, steps=None, rounded=None, **changes):
  """Train.

  Args:
    run: `Run`.
    steps: how many, instead of all.
    rounded: seed of a generator that moves every first parameter to the next
      or the last number, as another platform's rounding would.
    **changes: arguments of `run.begin`.

  Returns:
    Points [n] by metric.
  """
  task, state, batches = run.begin(**changes)
  if rounded is not None:
    state = state.replace(params=_nudged(state.params, rounded))
  key = jax.random.key(0)
  step = jax.jit(
    task.train_step,
    donate_argnums=0,
    # Compiling takes longer than these steps do.
    compiler_options={"xla_backend_optimization_level": 0},
  )
  means = {name: [] for name in run.tolerances}
  for _ in range(run.steps if steps is None else steps):
    state, metrics = step(state, next(batches), key)
    told = {name: metrics[name] for name in means if name in metrics}
    told = metrics_lib.to_host(told)
    for name, values in means.items():
      mean = told.get(name, metrics_lib.Mean(0.0, 0.0))
      values.append((mean.total, mean.count))
  points = {}
  for name, values in means.items():
    total, count = np.reshape(values, (-1, EVERY, 2)).sum(axis=1).T
    points[name] = np.divide(
      total, count, out=np.full(len(count), np.nan), where=count > 0
    )
  return points


def distances(found, recorded):
  """Return how wide a band would have to be, by metric.

  It is the largest |found - recorded| / (1 + |recorded|), and infinite where
  only one of both counts nothing.
  """
  wide = {}
  for name, curve in recorded.items():
    apart = np.abs(found[name] - curve) / (1 + np.abs(curve))
    counts = np.isfinite(found[name]), np.isfinite(curve)
    apart = np.where(counts[0] | counts[1], apart, 0.0)
    wide[name] = float(np.nan_to_num(apart, nan=np.inf).max())
  return wide


def strays(run, found, recorded):
  """Return the names of the metrics that leave their bands anywhere."""
  wide = distances(found, recorded)
  return [name for name in wide if wide[name] > run.tolerances[name]]


def spread(run, seeds):
  """Return the largest distances from the record that rounding makes.

  Args:
    run: `Run`.
    seeds: of `curves`' `rounded`, a curve each.
  """
  recorded = read(run)
  wide = [distances(curves(run, rounded=x), recorded) for x in seeds]
  return {name: max(x[name] for x in wide) for name in recorded}


def read(run):
  """Return the recorded points [n] by metric."""
  content = json.loads(_file(run).read_text())
  return {name: np.float64(x) for name, x in content["curves"].items()}


def record(run):
  """Write the curves of this code into the file."""
  whole = lambda x: None if np.isnan(x) else round(float(x), 5)
  found = curves(run)
  content = {
    "versions": environment.versions(),
    "every": EVERY,
    "curves": {name: [whole(x) for x in found[name]] for name in found},
  }
  lines = json.dumps(content, indent=2).replace(",\n      ", ", ")
  lines = lines.replace("[\n      ", "[").replace("\n    ]", "]")
  _file(run).write_text(lines + "\n")


def first_state(task, measured):
  """Make a task's state of step 0 without running its `init`.

  Weights have variance 1 / fan-in, each array by a generator of its own name;
  scales and variances are 1, everything else is 0.
  """
  key = jax.random.key(0)
  shapes = jax.eval_shape(lambda key: task.init(key, measured), key)

  def fill(path, leaf):
    top, name = path[0].name, getattr(path[-1], "key", "")
    if (top, name) in (("params", "scale"), ("model_state", "var")):
      return np.ones(leaf.shape, leaf.dtype)
    if top != "params" or name == "bias" or leaf.ndim < 2:
      return np.zeros(leaf.shape, leaf.dtype)
    seed = zlib.crc32(jax.tree_util.keystr(path).encode())
    deviation = np.prod(leaf.shape[:-1]) ** -0.5
    drawn = np.random.default_rng(seed).normal(0, deviation, leaf.shape)
    return drawn.astype(leaf.dtype)

  return jax.tree_util.tree_map_with_path(fill, shapes)


def _nudged(params, seed):
  generator = np.random.default_rng(seed)

  def move(leaf):
    to = np.where(generator.random(leaf.shape) < 0.5, -np.inf, np.inf)
    return np.nextafter(np.asarray(leaf), to.astype(leaf.dtype))

  return jax.tree.map(move, params)


def _file(run):
  return pathlib.Path(__file__).with_name(f"{run.name}.json")
