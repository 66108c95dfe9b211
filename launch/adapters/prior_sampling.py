"""Samples of a prior on request: labels, conditions, parts to complete."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from launch import request as request_lib
from training import state as state_lib
from training import task as task_protocol
from vqgan import decode, prior_task

Sampler = Callable[[state_lib.State, np.ndarray], task_protocol.Samples]


def make_sampler(
  config: ml_collections.ConfigDict,
  task: prior_task.PriorTask,
  measured: Mapping[str, np.ndarray],
  key: jax.Array,
) -> Sampler:
  """Makes the sampler of a run's own pictures: labels in turn."""
  asked = request_lib.from_config(config)
  return make_requested_sampler(config, task, measured, key, asked)


def make_requested_sampler(
  config: ml_collections.ConfigDict,
  task: prior_task.PriorTask,
  measured: Mapping[str, np.ndarray],
  key: jax.Array,
  request: request_lib.Request,
) -> Sampler:
  """Make the compiled sampler (state, global indices [b]) -> Samples.

  Sample i has the key fold_in(key, i) and the i-th of the requested labels,
  in turn.

  Raises:
    ValueError: the request does not fit the model.
  """
  del config, measured
  labels = _labels(task, request)
  guided = request.guidance != 1.0
  if guided and not (task.model.num_classes and task.class_drop):
    raise ValueError(
      f"guidance {request.guidance} needs a model with classes that was trained"
      " with model.class_drop above 0"
    )
  settings = decode.Settings.create(
    request.temperature, request.top_k, request.top_p, request.guidance
  )

  @jax.jit
  def run(state, indices, settings):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(indices)
    label = jnp.asarray(labels)[indices % len(labels)]
    samples = task.sample(
      state, keys, prior_task.Given(label=label), settings, guided=guided
    )
    return samples.replace(info={**samples.info, "label": label})

  return lambda state, indices: run(state, indices, settings)


def _labels(task, request):
  num_classes = task.model.num_classes
  if request.labels is None:
    return np.arange(max(num_classes, 1), dtype=np.int32)
  if not num_classes:
    raise ValueError("labels were given, but the model has no classes")
  # The null class, num_classes, is a label too.
  wrong = [x for x in request.labels if not 0 <= x <= num_classes]
  if wrong:
    raise ValueError(
      f"label {wrong[0]} must be between 0 and {num_classes - 1}"
    )
  return np.asarray(request.labels, np.int32)
