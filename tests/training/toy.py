"""A small task and its batches, for the tests of the engine."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from training import metrics, optimizer, sharding, task
from training import state as state_lib

EXAMPLES = 64
FEATURES = 8


@dataclasses.dataclass(frozen=True)
class Toy:
  """A regression with dropout, an average, a model state and frozen arrays."""

  width: int = 16
  total_steps: int = 100
  accumulate: int = 1
  frozen: bool = False

  def _tx(self):
    return optimizer.make(
      name="adamw",
      peak=0.01,
      warmup_steps=4,
      total_steps=self.total_steps,
      weight_decay=0.01,
      clip_norm=1.0,
    )

  def init(self, key, measured):
    """Make the state of step 0."""
    del measured
    first, second = jax.random.split(key)
    params = {
      "layers": {"kernel": jax.random.normal(first, (2, FEATURES, self.width))},
      "out": {
        "kernel": jax.random.normal(second, (self.width, 1)) / 4,
        "bias": jnp.zeros(1),
      },
    }
    frozen = {"scale": {"w": jnp.full((FEATURES,), 0.5)}} if self.frozen else {}
    return state_lib.State.create(
      params,
      self._tx(),
      ema=True,
      model_state={"seen": jnp.zeros((), jnp.int32)},
      frozen=frozen,
    )

  def train_step(self, state, batch, key):
    """Take one step."""
    key = jax.random.fold_in(key, state.step)

    def loss_fn(params, batch, key):
      x = batch["x"]  # [b, d]
      if self.frozen:
        x = x * state.frozen["scale"]["w"]
      y = jnp.tanh(x @ params["layers"]["kernel"].sum(0))  # [b, f]
      y = y * jax.random.bernoulli(key, 0.9, y.shape)
      y = (y @ params["out"]["kernel"])[:, 0] + params["out"]["bias"]
      loss = metrics.Mean.of((y - batch["y"]) ** 2, batch["mask"])
      order = jnp.arange(1, x.shape[0] + 1)
      ids = metrics.Mean(
        jnp.sum(batch["example_id"] * order).astype(jnp.float32), 1.0
      )
      return loss, {"train/loss": loss, "data/ids": ids}

    (_, found), grads = optimizer.accumulate(
      loss_fn, self.accumulate, state.params, batch, key
    )
    state, norms = optimizer.update(state, self._tx(), grads, 0.99)
    seen = state.model_state["seen"] + batch["x"].shape[0]
    return state.replace(model_state={"seen": seen}), found | norms

  def eval_step(self, state, batch, key):
    """Return squared errors a row."""
    del key
    x = batch["x"]
    y = jnp.tanh(x @ state.sampling_params["layers"]["kernel"].sum(0))
    y = (y @ state.sampling_params["out"]["kernel"])[:, 0]
    return {"loss": jnp.where(batch["mask"], (y - batch["y"]) ** 2, 0.0)}

  def train_flops(self, batch_size):
    """Count multiplications twice, backward as two forwards."""
    return 6.0 * batch_size * (FEATURES + 1) * self.width

  def batch_spec(self, batch_size):
    """Describe one batch."""
    return {
      name: jax.ShapeDtypeStruct(rows.shape, rows.dtype)
      for name, rows in host_batch(0, batch_size).items()
    }


def host_batch(step, batch_size=8, seed=0):
  """The batch after `step` steps, a pure function of it."""
  position = np.arange(step * batch_size, (step + 1) * batch_size)
  order = np.stack(
    [
      np.random.default_rng((seed, epoch)).permutation(EXAMPLES)[index]
      for epoch, index in zip(position // EXAMPLES, position % EXAMPLES)
    ]
  )
  x = np.stack([np.random.default_rng((7, i)).normal(size=8) for i in order])
  return {
    "x": x.astype(np.float32),
    "y": np.sin(x.sum(1)).astype(np.float32),
    "mask": order % 5 != 0,
    "example_id": order.astype(np.int32),
  }


def make_batches(mesh, batch_size=8, seed=0):
  """Return the function that `loop.run` asks for batches."""

  def batches(step):
    count, index = jax.process_count(), jax.process_index()
    rows = slice(index * batch_size // count, (index + 1) * batch_size // count)
    while True:
      batch = host_batch(step, batch_size, seed)
      mine = {name: x[rows] for name, x in batch.items()}
      yield sharding.place_batch(mine, mesh)
      step += 1

  return batches


assert isinstance(Toy(), task.Task)
