"""A task of two parameters, its adapter and its config: launch without a model.

The mean grey of an image is predicted from its label; samples are flat.
"""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from training import optimizer, sharding
from training import state as state_lib
from training import task as task_lib

NUM_CLASSES = 4
LIKELIHOOD = {"all": ("bits",)}
RULE = sharding.FsdpRule(min_size=1)


@dataclasses.dataclass(frozen=True)
class Toy:
  """Least squares on mean grey; `center` is measured."""

  tx: object
  width: int

  def init(self, key, measured):
    table = 0.01 * jax.random.normal(key, (NUM_CLASSES, self.width))
    frozen = {"center": jnp.asarray(measured["center"], jnp.float32)}
    return state_lib.State.create(
      {"table": table}, self.tx, ema=True, frozen=frozen
    )

  def train_step(self, state, batch, key):
    key = jax.random.fold_in(key, state.step)

    def loss_fn(params):
      errors = self._errors(params, state.frozen, batch)
      noise = 0.01 * jax.random.normal(key, errors.shape)
      return jnp.mean((errors + noise) ** 2)

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    state, metrics = optimizer.update(state, self.tx, grads, ema_decay=0.9)
    ids = jnp.sum(batch["example_id"].astype(jnp.float32))
    return state, {"train/loss": loss, "train/ids": ids, **metrics}

  def eval_step(self, state, batch, key):
    del key
    errors = self._errors(state.sampling_params, state.frozen, batch)
    mask = batch["mask"].astype(jnp.float32)
    return {"bits": errors**2 * mask, "pixels": 64.0 * mask}

  def train_flops(self, batch_size):
    return 6.0 * batch_size * self.width

  def batch_spec(self, batch_size):
    ints = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    grey = jax.ShapeDtypeStruct((batch_size,), jnp.float32)
    return {"grey": grey, "label": ints, "example_id": ints}

  def sample(self, state, keys, condition):
    mean = state.sampling_params["table"].mean(axis=1)[condition]
    noise = jax.vmap(jax.random.normal)(keys)
    grey = 128 + 50 * (mean + 0.1 * noise + state.frozen["center"])
    images = jnp.clip(grey, 0, 255).astype(jnp.uint8)[:, None, None, None]
    count = len(keys)
    return task_lib.Samples(
      images=jnp.broadcast_to(images, (count, 8, 8, 3)),
      sizes=jnp.full((count, 2), 8, jnp.int32),
      tokens=(),
      info={"grey": grey},
    )

  def _errors(self, params, frozen, batch):
    predicted = params["table"].sum(axis=1)[batch["label"]]
    return predicted + frozen["center"] - batch["grey"]


def make_task(config, measured):
  del measured
  return Toy(optimizer.make(peak=0.1, schedule="constant"), config.model.width)


def make_array_encode(config, measured, use):
  del config, measured

  def encode(record, seed):
    del seed
    if use == "image":
      size = np.array(record["image"].shape[:2], np.int32)
      return {"image": record["image"][None], "size": size[None]}
    grey = record["image"].mean(dtype=np.float32) / 50 - 2.56
    return {"grey": grey[None], "label": record["label"][None]}

  return encode


def rows_per_example(config):
  del config
  return 1


def measure(config, batches):
  del config
  values = [batch["grey"][batch["mask"]] for batch in batches]
  return {"center": np.float32(np.concatenate(values).mean())}


def assumed(config):
  del config
  return {"center": np.float32(0.0)}


def make_sampler(config, task, measured, key):
  del config, measured
  sample = jax.jit(task.sample)

  def sampler(state, indices):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(indices)
    return sample(state, keys, indices % NUM_CLASSES)

  return sampler


def jpeg_quality(config):
  del config
  return 75


def write_data(path):
  """Writes 40 training and 13 validation pictures of 8 x 8 pixels."""
  generator = np.random.default_rng(0)
  arrays = {}
  for split, count in (("train", 40), ("validation", 13)):
    labels = generator.integers(0, NUM_CLASSES, count)
    images = 40 * labels[:, None, None, None] + 20
    noise = generator.integers(0, 20, (count, 8, 8, 3))
    arrays[f"{split}_images"] = (images + noise).astype(np.uint8)
    arrays[f"{split}_labels"] = labels
  np.savez(path, **arrays)
  return path


def get_config(arg=""):
  """Returns the config; `arg` is the path of the data."""
  return ml_collections.ConfigDict(
    {
      "task": "toy",
      "seed": 1,
      "platform": "cpu",
      "data": {
        "source": "arrays",
        "dir": arg,
        "split": "train",
        "eval_split": "validation",
        "num_measured": 16,
      },
      "model": {"width": 4},
      "train": {
        "num_steps": 12,
        "batch_size": 8,
        "log_every": 2,
        "checkpoint_every": 4,
        "keep": 2,
        "on_nan": "stop",
      },
      "eval": {"every": 6, "batch_size": 8, "num_examples": 13},
      "sample": {"every": 12, "num": 6, "batch": 4},
      "mesh": {"data": 1, "fsdp": -1, "tensor": 1},
    }
  )
