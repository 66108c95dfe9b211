"""SUNDAE samples on request: labels, steps, larger canvases, inpainting."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from launch import request as request_lib
from sundae import decode
from sundae import task as task_lib
from training import state as state_lib
from training import task as task_protocol

Sampler = Callable[[state_lib.State, np.ndarray], task_protocol.Samples]


def make_sampler(
  config: ml_collections.ConfigDict,
  task: task_lib.SundaeTask,
  measured: Mapping[str, np.ndarray],
  key: jax.Array,
) -> Sampler:
  """Makes the sampler of a run's own pictures: labels in turn."""
  asked = request_lib.from_config(config)
  return make_requested_sampler(config, task, measured, key, asked)


def make_requested_sampler(
  config: ml_collections.ConfigDict,
  task: task_lib.SundaeTask,
  measured: Mapping[str, np.ndarray],
  key: jax.Array,
  request: request_lib.Request,
) -> Sampler:
  """Make the compiled sampler (state, global indices [b]) -> Samples.

  Sample i has the key fold_in(key, i) and the i-th of the requested labels, in
  turn.

  Raises:
    ValueError: the request does not fit the model.
  """
  del config, measured
  labels = request_lib.labels(request, task.model.num_classes)
  guided = request.guidance != 1.0
  if guided and not (task.model.num_classes and task.class_drop):
    raise ValueError(
      f"guidance {request.guidance} needs a model with classes that was trained"
      " with model.class_drop above 0"
    )
  settings = make_settings(request)

  @jax.jit
  def run(state, indices, settings):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(indices)
    label = jnp.asarray(labels)[indices % len(labels)]
    condition = decode.nothing_given(label, task.model.grid)
    samples = task.sample(state, keys, condition, settings, guided=guided)
    return samples.replace(info={**samples.info, "label": label})

  return lambda state, indices: run(state, indices, settings)


def make_settings(request: request_lib.Request) -> decode.Settings:
  """Makes the settings of the steps."""
  denoising = request.denoising
  assert denoising is not None  # every config of this task has it
  return decode.Settings.create(
    denoising.steps,
    (request.temperature, denoising.end_temperature),
    (denoising.proportion, denoising.end_proportion),
    min_steps=denoising.min_steps,
    top_k=request.top_k,
    top_p=request.top_p,
    guidance=request.guidance,
    confident=denoising.confident,
    argmax=denoising.argmax,
  )
