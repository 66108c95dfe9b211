"""Samples of a prior on request: labels, conditions, parts, larger pictures.

What a sample is given comes from the request, or from the evaluation split:
sample i then takes that of record i.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from data import arrays as batches_lib
from data import source as source_lib
from launch import datasets, judge
from launch import request as request_lib
from launch.adapters import prior_given
from training import state as state_lib
from training import task as task_protocol
from vqgan import decode, prior_task, rejection

Sampler = Callable[[state_lib.State, np.ndarray], task_protocol.Samples]
Resize = Callable[[tuple[int, int]], tuple[prior_task.PriorTask, Callable]]


def make_sampler(
  config: ml_collections.ConfigDict,
  task: prior_task.PriorTask,
  key: jax.Array,
  request: request_lib.Request,
  resize: Resize,
) -> Sampler:
  """Make the sampler (state, global indices [b]) -> Samples.

  Sample i has the key fold_in(key, i) and the i-th of the requested labels,
  in turn; its `info` holds `label`, and `given`, a picture of what it was to
  obey, where there is one, and `score` where draws were chosen by one.

  Args:
    config: of the run.
    task: of the run.
    key: of the job.
    request: what is asked for.
    resize: for pictures of another size: (rows and columns in pixels) -> (the
      task, and the encode function of NumPy for rows of the run's dataset).

  Raises:
    ValueError: the request does not fit the model.
  """
  _check(task, request)
  trained, factor = task.grid, task.tokenizer.factor
  grid = prior_given.grid(task, request)
  task, encode = resize(tuple(factor * side for side in grid))
  fixed = prior_given.rows(config, task, request)
  keep = prior_given.kept(task, request)
  num_classes = task.model.num_classes
  null = bool(num_classes and task.class_drop)
  request_lib.need_class(request, num_classes, null)
  labels = request_lib.labels(request, num_classes, null)
  guided = request_lib.guided(request, null)
  settings = decode.Settings.create(
    request.temperature, request.top_k, request.top_p, request.guidance
  )
  score = judge.load(request.score) if request.score else None
  records = None

  @jax.jit
  def run(state, indices, rows, settings):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(indices)
    label = rows.get("label", jnp.asarray(labels)[indices % len(labels)])
    given, shown = _given(task, state.frozen, rows, label, keep)
    options = {"guided": guided}

    def draw(keys):
      if grid == trained:
        known = prior_given.known(task, keep)
        return task.sample(state, keys, given, settings, known=known, **options)
      return task.sample_large(state, keys, given, trained, settings, **options)

    info = {"label": label} | ({} if shown is None else {"given": shown})
    if score is None:
      samples = draw(keys)
    else:
      samples, info["score"] = rejection.best(
        draw, lambda drawn: score(drawn.images, label), keys, request.acceptance
      )
    return samples.replace(info={**samples.info, **info})

  def sample(state, indices):
    nonlocal records
    rows = {
      name: np.repeat(array, len(indices), axis=0)
      for name, array in fixed.items()
    }
    if prior_given.lacks(task, fixed, keep):
      if records is None:
        records = datasets.open_source(config, config.data.eval_split)
      rows |= _read(records, np.asarray(indices), encode)
      if request.labels is not None or not task.model.num_classes:
        rows.pop("label")
    return run(state, indices, rows, settings)

  return sample


def _given(task, frozen, rows, label, keep):
  """Return (what the samples are given, a picture of it or None)."""
  codes = tokens = shown = None
  if keep is not None:
    codes = task.codes(frozen, rows)
    keep = jnp.broadcast_to(keep, codes.shape)
    rows = {**rows, "known": keep}
    seen = task.pictures(frozen, codes).images
    side = task.tokenizer.factor
    whole = jnp.repeat(jnp.repeat(keep, side, axis=1), side, axis=2)
    shown = jnp.where(whole[..., None], seen, jnp.uint8(128))
  if task.condition.length:
    tokens = task.tokens(frozen, rows, codes)
    params = frozen.get("condition", {})
    picture = task.condition.pictures(params, tokens)
    shown = picture if shown is None else shown
  return prior_task.Given(label, tokens, codes, keep), shown


def _read(source, indices, encode):
  """Return evaluation rows of records, one an index, round and round."""
  picked = source_lib.Part(source, indices % len(source))
  (batch,) = batches_lib.eval_batches(picked, encode, batch_size=len(indices))
  return {
    name: x for name, x in batch.items() if name not in ("mask", "example_id")
  }


def _check(task, request):
  """Raise ValueError for what no prior, or not this one, can do."""
  if request.given and not 0 <= request.fraction <= 1:
    raise ValueError(f"fraction {request.fraction} must be in 0..1")
  if request.score and not 0 < request.acceptance < 1:
    raise ValueError(
      f"acceptance {request.acceptance} must be above 0 and below 1"
    )
