"""The second stage as a task: a model of codes, given a condition.

Batch rows: `codes` uint16 [b, h, w], or what the first stage reads, which then
encodes it within the step; label and example_id int32 [b]; and what the
condition reads (`vqgan.conditions.kinds`). A state's `frozen` holds the
parameters of the first stage, `tokenizer`, and of the one that reads the
condition, `condition`.

Shapes: b batch, h w rows and columns of codes, l codes in the model's order,
m condition tokens, v codes of the vocabulary.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from einops import rearrange

from layers import logits as logits_lib
from training import metrics as metrics_lib
from training import optimizer as optimizer_lib
from training import state as state_lib
from training import task as task_lib
from training import trees
from vqgan import decode, orders, prior, window
from vqgan import tokenizer as tokenizer_lib
from vqgan.conditions import kinds

_STAGES = ("tokenizer", "condition")


@flax.struct.dataclass
class Given:
  """What samples are given; each may be None.

  Attributes:
    label: int32 [b].
    tokens: int32 [b, m], of the condition.
    codes: int32 [b, h, w], kept where `keep` is.
    keep: bool [b, h, w].
  """

  label: jax.Array | None = None
  tokens: jax.Array | None = None
  codes: jax.Array | None = None
  keep: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class PriorTask:
  """Pure functions of one prior.

  Attributes:
    model: `prior.Prior`, or a module with its methods.
    tokenizer: the frozen first stage.
    condition: what is told beside a class.
    tx: optimiser; the authors decay `optimizer.kernels` alone.
    order: of the codes, see `orders`.
    ema_decay: of the parameter average; None keeps none.
    accumulate: pieces that a batch's gradient is computed in.
    class_drop: chance of training on the null class.
    pkeep: chance that an input code is kept; else it is a uniform one (Esser
      et al. 2021's code; 1 in all published models but one).
    from_codes: whether batches hold codes.
  """

  model: Any
  tokenizer: tokenizer_lib.Tokenizer
  condition: kinds.Condition
  tx: optax.GradientTransformation
  order: str = "row"
  ema_decay: float | None = None
  accumulate: int = 1
  class_drop: float = 0.0
  pkeep: float = 1.0
  from_codes: bool = False

  @property
  def grid(self) -> tuple[int, int]:
    """h and w."""
    return self.tokenizer.grid

  @property
  def length(self) -> int:
    """The codes of an image, l."""
    return math.prod(self.grid)

  def init(
    self, key: jax.Array, measured: Mapping[str, np.ndarray]
  ) -> state_lib.State:
    """Make the state of step 0.

    Args:
      key: a key.
      measured: the first stages' parameters, `tokenizer/...` and
        `condition/...`.
    """
    tokens = None
    if self.condition.length:
      tokens = jnp.zeros((1, self.condition.length), jnp.int32)
    codes = jnp.zeros((1, self.length), jnp.int32)
    label = jnp.zeros(1, jnp.int32) if self.model.num_classes else None
    params = self.model.init(key, codes, tokens, label)
    frozen = {}
    for name in _STAGES:
      found = trees.unflatten(trees.select(measured, name))
      if found:
        frozen[name] = jax.tree.map(jnp.asarray, found)
    return state_lib.State.create(
      params, self.tx, ema=self.ema_decay is not None, frozen=frozen
    )

  def train_step(
    self, state: state_lib.State, batch: Mapping[str, jax.Array], key: jax.Array
  ) -> tuple[state_lib.State, metrics_lib.Metrics]:
    """Take one step on images [b]."""
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
    """Return the bits of each row's codes, float32 [b].

    Keys: `bits_codes`, and the counts `elements` (codes) and `pixels`. They
    are bits of codes, not of pictures: models of one first stage compare.
    """
    del key
    codes = self.codes(state.frozen, batch)
    tokens = self.tokens(state.frozen, batch, codes)
    sequence = self.sequence(codes)
    logits = self.model.apply(
      state.sampling_params, sequence, tokens, self._label(batch)
    )
    nats = logits_lib.cross_entropy(logits, sequence)  # [b, l]
    ones = jnp.ones(len(codes))
    rows = {
      "bits_codes": nats.sum(axis=1) / math.log(2.0),
      "elements": ones * self.length,
      "pixels": ones * self.length * self.tokenizer.factor**2,
    }
    return {
      name: jnp.where(batch["mask"], row, 0.0) for name, row in rows.items()
    }

  def sample(
    self,
    state: state_lib.State,
    keys: jax.Array,
    given: Given,
    settings: decode.Settings | None = None,
    *,
    known: int = 0,
    guided: bool = False,
  ) -> task_lib.Samples:
    """Sample one image a key.

    Args:
      state: a state.
      keys: [b] keys.
      given: what the samples are to obey.
      settings: of the draws.
      known: how many codes, from the first in the model's order on, every
        sample keeps: these are read at once.
      guided: see `decode.sample`.

    Returns:
      Samples whose tokens are the codes int32 [b, h, w].
    """
    settings = decode.Settings.create() if settings is None else settings
    kept = None
    if given.codes is not None:
      kept = decode.Given(self.sequence(given.codes), self.sequence(given.keep))
    label = given.label if self.model.num_classes else None
    drawn = decode.sample(
      self.model,
      state.sampling_params,
      keys,
      self.length,
      settings,
      condition=given.tokens,
      label=label,
      given=kept,
      known=known,
      guided=guided,
    )
    return self.pictures(state.frozen, self.image_order(drawn))

  def sample_large(
    self,
    state: state_lib.State,
    keys: jax.Array,
    given: Given,
    trained: tuple[int, int],
    settings: decode.Settings | None = None,
    *,
    guided: bool = False,
  ) -> task_lib.Samples:
    """Sample images larger than trained by a sliding window, one a key.

    Args:
      state: a state.
      keys: [b] keys.
      given: as in `sample`, for the whole of this task's grid.
      trained: rows and columns of codes that the model knows: the window.
      settings: of the draws.
      guided: see `decode.sample`.

    Raises:
      ValueError: the codes are not in the order by rows.
    """
    if self.order != "row":
      raise ValueError(f"a window slides over rows, not the order {self.order}")
    tokens, kept = given.tokens, None
    if tokens is not None and self.condition.places == self.grid:
      tokens = rearrange(tokens, "b (h w) -> b h w", h=self.grid[0])
    if given.codes is not None:
      kept = decode.Given(given.codes, given.keep)
    codes = window.sample(
      self.model,
      state.sampling_params,
      keys,
      self.grid,
      trained,
      decode.Settings.create() if settings is None else settings,
      condition=tokens,
      label=given.label if self.model.num_classes else None,
      given=kept,
      guided=guided,
    )
    return self.pictures(state.frozen, codes)

  def pictures(
    self, frozen: Mapping[str, Any], codes: jax.Array
  ) -> task_lib.Samples:
    """Decode codes [b, h, w] to samples."""
    images = self.tokenizer.decode(frozen.get("tokenizer", {}), codes)
    sizes = jnp.tile(jnp.int32(images.shape[1:3]), (len(images), 1))
    return task_lib.Samples(images, sizes, tokens=codes, info={})

  def reconstruct(
    self, state: state_lib.State, batch: Mapping[str, jax.Array]
  ) -> jax.Array:
    """Decode each row's codes: uint8 [b, H, W, 3]."""
    codes = self.codes(state.frozen, batch)
    return self.pictures(state.frozen, codes).images

  def codes(
    self, frozen: Mapping[str, Any], batch: Mapping[str, jax.Array]
  ) -> jax.Array:
    """Return the codes int32 [b, h, w] of a batch."""
    return tokenizer_lib.read(
      self.tokenizer, frozen.get("tokenizer", {}), batch
    )

  def tokens(
    self,
    frozen: Mapping[str, Any],
    batch: Mapping[str, jax.Array],
    codes: jax.Array,
    key: jax.Array | None = None,
  ) -> jax.Array | None:
    """Return the condition's tokens int32 [b, m]; see `kinds.Condition`."""
    params = frozen.get("condition", {})
    return self.condition.tokens(params, batch, codes, key)

  def sequence(self, grid: jax.Array) -> jax.Array:
    """Put a grid [b, h, w] into the model's order [b, l]."""
    flat = rearrange(grid, "b h w -> b (h w)")
    return flat[:, orders.order(self.order, *self.grid)]

  def image_order(self, sequence: jax.Array) -> jax.Array:
    """Undo `sequence`: [b, l] to [b, h, w]."""
    back = orders.inverse(orders.order(self.order, *self.grid))
    return rearrange(sequence[:, back], "b (h w) -> b h w", h=self.grid[0])

  def train_flops(self, batch_size: int) -> float:
    """Count the floating-point operations of one step, without the encoder."""
    return prior.flops(
      self.model, self.length, self.condition.length, batch_size
    )

  def batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Describe one training batch."""
    rows = {self.tokenizer.input: self.tokenizer.spec(batch_size)}
    if self.from_codes:
      shape = (batch_size, *self.grid)
      rows = {"codes": jax.ShapeDtypeStruct(shape, jnp.uint16)}
    ids = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    return {
      **self.condition.spec(batch_size),
      **rows,
      "label": ids,
      "example_id": ids,
    }

  def _loss(self, params, frozen, batch, key):
    """Return (mean nats a code, metrics)."""
    keys = jax.random.split(key, 5)
    codes = self.codes(frozen, batch)
    tokens = self.tokens(frozen, batch, codes, keys[0])
    label = self._label(batch)
    if self.class_drop and label is not None:
      drop = jax.random.bernoulli(keys[1], self.class_drop, label.shape)
      label = jnp.where(drop, self.model.num_classes, label)
    sequence = fed = self.sequence(codes)
    if self.pkeep < 1:
      keep = jax.random.bernoulli(keys[2], self.pkeep, fed.shape)
      other = jax.random.randint(keys[3], fed.shape, 0, self.model.num_codes)
      fed = jnp.where(keep, fed, other)
    logits = self.model.apply(
      params, fed, tokens, label, train=True, rngs={"dropout": keys[4]}
    )
    counts = kinds.learnt(self.condition, tokens)
    counts = None if counts is None else counts[:, None]
    nats = logits_lib.cross_entropy(logits, sequence)
    loss = metrics_lib.Mean.of(nats, counts)
    right = (jnp.argmax(logits, axis=-1) == sequence).astype(jnp.float32)
    return loss, {
      "train/nats_per_code": loss,
      "train/right_fraction": metrics_lib.Mean.of(right, counts),
    }

  def _label(self, batch):
    return batch["label"] if self.model.num_classes else None
