"""SUNDAE as a task: unrolled denoising, samples, inpainting.

Batch rows: `codes` uint16 [b, h, w], or what the first stage reads, which then
encodes it within the step; label and example_id int32 [b]. A state's `frozen`
holds the first stage's parameters, `tokenizer`.

Shapes: b batch, h w rows and columns of codes, t unrolls.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sundae import corruption, decode, unroll, windows
from sundae import model as model_lib
from training import metrics as metrics_lib
from training import optimizer as optimizer_lib
from training import state as state_lib
from training import task as task_lib
from training import trees
from vqgan import tokenizer as tokenizer_lib


@dataclasses.dataclass(frozen=True)
class SundaeTask:
  """Pure functions of one model.

  Attributes:
    model: the network.
    tokenizer: the frozen first stage.
    tx: optimiser.
    unrolls: t.
    ema_decay: of the parameter average; None keeps none.
    accumulate: pieces that a batch's gradient is computed in.
    class_drop: chance of training on the null class.
    from_codes: whether batches hold codes.
  """

  model: model_lib.Hourglass
  tokenizer: tokenizer_lib.Tokenizer
  tx: optax.GradientTransformation
  unrolls: int = 2
  ema_decay: float | None = None
  accumulate: int = 1
  class_drop: float = 0.0
  from_codes: bool = False

  def __post_init__(self):
    if self.unrolls < 1:
      raise ValueError(f"unrolls {self.unrolls} must be at least 1")

  def init(
    self, key: jax.Array, measured: Mapping[str, np.ndarray]
  ) -> state_lib.State:
    """Make the state of step 0; `measured` holds `tokenizer/...`."""
    codes = jnp.zeros((1, *self.model.grid), jnp.int32)
    params = self.model.init(key, codes, jnp.zeros(1, jnp.int32))
    found = trees.unflatten(trees.select(measured, "tokenizer"))
    frozen = {"tokenizer": jax.tree.map(jnp.asarray, found)} if found else {}
    return state_lib.State.create(
      params, self.tx, ema=self.ema_decay is not None, frozen=frozen
    )

  def train_step(
    self, state: state_lib.State, batch: Mapping[str, jax.Array], key: jax.Array
  ) -> tuple[state_lib.State, metrics_lib.Metrics]:
    """Take one step on images [b] (McKinney & Willcocks 2022, sec. 3.2)."""
    key = jax.random.fold_in(key, state.step)
    loss_fn = lambda params, piece, key: self._loss(
      params, state.frozen, piece, key
    )
    (loss, metrics), grads = optimizer_lib.accumulate(
      loss_fn, self.accumulate, state.params, batch, key
    )
    state, update = optimizer_lib.update(state, self.tx, grads, self.ema_decay)
    return state, {"train/loss": loss, **metrics, **update}

  def eval_step(
    self, state: state_lib.State, batch: Mapping[str, jax.Array], key: jax.Array
  ) -> dict[str, jax.Array]:
    """Return what denoising costs and gets right, float32 [b] by unroll.

    Keys: `nats_unroll_1`, ..., `right_unroll_1`, ..., sums over the codes, and
    their count `elements`. It is no likelihood: the codes were seen, some of
    them corrupted, by noise that the example's number and the key decide.
    """
    codes = self.codes(state.frozen, batch)
    fold = lambda i: jax.random.fold_in(key, i)
    keys = jax.vmap(fold)(batch["example_id"])

    def one(codes, label, key):
      codes, keys = codes[None], jax.random.split(key)
      label = label[None] if self.model.num_classes else None
      noisy = corruption.corrupt(keys[0], codes, self.model.num_codes)
      apply = lambda params, z: self.model.apply(params, z, label)
      _, counted = unroll.loss(
        apply, state.sampling_params, codes, noisy, keys[1], self.unrolls
      )
      return counted

    nats, right = jax.vmap(one)(codes, batch["label"], keys)  # [b, t]
    rows = {"elements": jnp.full(len(codes), math.prod(self.model.grid))}
    for t in range(self.unrolls):
      rows[f"nats_unroll_{t + 1}"] = nats[:, t]
      rows[f"right_unroll_{t + 1}"] = right[:, t]
    return {
      name: jnp.where(batch["mask"], row, 0.0).astype(jnp.float32)
      for name, row in rows.items()
    }

  def sample(
    self,
    state: state_lib.State,
    keys: jax.Array,
    condition: decode.Condition,
    settings: decode.Settings | None = None,
    *,
    guided: bool = False,
    frames: int = 0,
    start: tuple[int, int] | None = None,
  ) -> task_lib.Samples:
    """Sample one image a key.

    Args:
      state: a state.
      keys: [b] keys.
      condition: codes of the model's grid, or of a larger canvas, which is
        filled by windows.
      settings: of the steps.
      guided: see `decode.sample`.
      frames: see `decode.sample`; of the model's grid only.
      start: row and column of a given picture on a larger canvas, in codes;
        see `windows.places`.

    Returns:
      Samples whose tokens are the codes int32 [b, h, w].

    Raises:
      ValueError: frames of a larger canvas.
    """
    settings = decode.Settings.create() if settings is None else settings
    inputs = self.model, state.sampling_params, keys, condition, settings
    if condition.codes.shape[1:] == tuple(self.model.grid):
      codes, info = decode.sample(*inputs, guided=guided, frames=frames)
    elif frames:
      raise ValueError(
        f"frames {frames} of a larger canvas are not kept: ask 0"
      )
    else:
      codes, info = windows.sample(*inputs, guided=guided, start=start)
    images = self.decode(state.frozen, codes)
    sizes = jnp.tile(jnp.int32(images.shape[1:3]), (len(images), 1))
    return task_lib.Samples(images, sizes, tokens=codes, info=info)

  def reconstruct(
    self, state: state_lib.State, batch: Mapping[str, jax.Array]
  ) -> jax.Array:
    """Decode each row's codes: uint8 [b, H, W, 3]."""
    return self.decode(state.frozen, self.codes(state.frozen, batch))

  def codes(
    self, frozen: Mapping[str, Any], batch: Mapping[str, jax.Array]
  ) -> jax.Array:
    """Return the codes int32 [b, h, w] of a batch."""
    params = frozen.get("tokenizer", {})
    return tokenizer_lib.read(self.tokenizer, params, batch)

  def decode(self, frozen: Mapping[str, Any], codes: jax.Array) -> jax.Array:
    """Return the pictures uint8 [b, H, W, 3] of codes [b, h, w]."""
    return self.tokenizer.decode(frozen.get("tokenizer", {}), codes)

  def train_flops(self, batch_size: int) -> float:
    """Count the operations of one training step, without the first stage."""
    return 3.0 * self.unrolls * model_lib.flops(self.model, batch_size)

  def batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Describe one training batch."""
    rows = {self.tokenizer.input: self.tokenizer.spec(batch_size)}
    if self.from_codes:
      shape = (batch_size, *self.model.grid)
      rows = {"codes": jax.ShapeDtypeStruct(shape, jnp.uint16)}
    ids = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    return {**rows, "label": ids, "example_id": ids}

  def _loss(self, params, frozen, batch, key):
    """Return (mean nats a code and unroll, metrics)."""
    drop_key, noise_key, draw_key = jax.random.split(key, 3)
    codes, label = self.codes(frozen, batch), None
    if self.model.num_classes:
      label = batch["label"]
      drop = jax.random.bernoulli(drop_key, self.class_drop, label.shape)
      label = jnp.where(drop, self.model.num_classes, label)
    total, (nats, right) = unroll.loss(
      lambda params, z: self.model.apply(params, z, label),
      params,
      codes,
      corruption.corrupt(noise_key, codes, self.model.num_codes),
      draw_key,
      self.unrolls,
    )
    count = jnp.float32(codes.size)
    metrics = {}
    for t in range(self.unrolls):
      mean = metrics_lib.Mean(nats[t], count)
      metrics[f"train/nats_per_code_unroll_{t + 1}"] = mean
      mean = metrics_lib.Mean(right[t], count)
      metrics[f"train/right_fraction_unroll_{t + 1}"] = mean
    return metrics_lib.Mean(total, self.unrolls * count), metrics
