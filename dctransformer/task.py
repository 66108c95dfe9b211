"""DCTransformer as a task: loss on a chunk, likelihood, samples.

Batch rows (`dctransformer.encode`): channel, position, value int16 [b, m];
length, total, chunk, label, example_id, clipped int32 [b]; size (pixels) and
blocks int32 [b, 2]. m = plan.max_elements.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dctransformer import chunks, dct, decode, model, moves, sparse
from layers import logits as logits_lib
from training import metrics as metrics_lib
from training import optimizer as optimizer_lib
from training import state as state_lib
from training import task as task_lib

# What a value outside of the codec's range costs on top of its clipped class:
# an escape that spells it out.
_CLIPPED_BITS = 16.0


@dataclasses.dataclass(frozen=True)
class DCTransformerTask:
  """Pure functions of one DCTransformer.

  Attributes:
    model: the network.
    tx: optimiser.
    ema_decay: of the parameter average; None keeps none.
    accumulate: pieces that a batch's gradient is computed in.
    class_drop: chance of training on the null class.
    weighted: undo the favour of early chunks by importance weights: the loss
      is then an unbiased total of bits over one of elements.
  """

  model: model.DCTransformer
  tx: optax.GradientTransformation
  ema_decay: float | None = None
  accumulate: int = 1
  class_drop: float = 0.0
  weighted: bool = False

  @property
  def codec(self) -> dct.Codec:
    """The model's codec."""
    return self.model.codec

  @property
  def plan(self) -> chunks.Plan:
    """The model's chunk plan."""
    return self.model.plan

  def init(
    self, key: jax.Array, measured: Mapping[str, np.ndarray]
  ) -> state_lib.State:
    """Make the state of step 0; `measured` as `dctransformer.measure` gives."""
    batch = {
      name: jnp.zeros(spec.shape, spec.dtype)
      for name, spec in self.batch_spec(1).items()
    }
    scale = jnp.asarray(measured["channel_std"], jnp.float32)
    chunk, coefficients = self._inputs(batch)
    params = self.model.init(
      key, chunk, coefficients, scale, batch["label"], batch["blocks"]
    )
    return state_lib.State.create(
      params,
      self.tx,
      ema=self.ema_decay is not None,
      frozen={"channel_std": scale},
    )

  def train_step(
    self,
    state: state_lib.State,
    batch: Mapping[str, jax.Array],
    key: jax.Array,
  ) -> tuple[state_lib.State, metrics_lib.Metrics]:
    """Take one step on chunks [b] (Nash et al. 2021, sec. 3.3)."""
    key = jax.random.fold_in(key, state.step)
    loss_fn = lambda params, piece, key: self._loss(
      params, state.frozen["channel_std"], piece, key
    )
    (loss, metrics), grads = optimizer_lib.accumulate(
      loss_fn, self.accumulate, state.params, batch, key
    )
    state, update = optimizer_lib.update(state, self.tx, grads, self.ema_decay)
    return state, {"train/loss": loss, **metrics, **update}

  def eval_step(
    self,
    state: state_lib.State,
    batch: Mapping[str, jax.Array],
    key: jax.Array,
  ) -> dict[str, jax.Array]:
    """Return the bits of each row's chunk; rows of an image sum to its list.

    Keys, float32 [b]: `bits_channel`, `bits_position`, `bits_value`, and the
    first two with illegal moves masked (`..._masked`); `bits_charged`,
    `elements` and `pixels`, counted with chunk 0. An element that did not fit
    into the list is charged its uniform cost, a clipped value 16 bits.
    """
    del key
    chunk, coefficients = self._inputs(batch)
    out = self.model.apply(
      state.sampling_params,
      chunk,
      coefficients,
      state.frozen["channel_std"],
      batch["label"],
      batch["blocks"],
    )
    bits = self._bits(out, chunk)
    legal = moves.legal_channels(
      self.codec,
      chunk.previous_channel,
      chunk.previous_position,
      batch["blocks"][:, None],
    )
    out = out.replace(channel=logits_lib.exclude(out.channel, legal))
    legal = moves.legal_positions(
      self.codec,
      chunk.channel,
      chunk.previous_channel,
      chunk.previous_position,
      batch["blocks"][:, None],
    )
    out = out.replace(position=logits_lib.exclude(out.position, legal))
    masked = self._bits(out, chunk)

    first = chunk.chunk == 0
    lost = batch["total"] - batch["length"]
    charged = lost * self._uniform_bits() + batch["clipped"] * _CLIPPED_BITS
    rows = {
      "bits_channel": bits["channel"].sum(axis=1),
      "bits_position": bits["position"].sum(axis=1),
      "bits_value": bits["value"].sum(axis=1),
      "bits_channel_masked": masked["channel"].sum(axis=1),
      "bits_position_masked": masked["position"].sum(axis=1),
      "bits_charged": jnp.where(first, charged, 0.0),
      "elements": jnp.where(first, batch["total"], 0),
      "pixels": jnp.where(first, batch["size"].prod(axis=1), 0),
    }
    mask = batch["mask"]
    return {
      name: jnp.where(mask, x.astype(jnp.float32), 0.0)
      for name, x in rows.items()
    }

  def sample(
    self,
    state: state_lib.State,
    keys: jax.Array,
    condition: decode.Condition,
    settings: decode.Settings | None = None,
    *,
    guided: bool = False,
    allow_illegal: bool = False,
  ) -> task_lib.Samples:
    """Sample one image a key (see `decode.sample`)."""
    settings = decode.Settings.create() if settings is None else settings
    elements, info = decode.sample(
      self.model,
      state.sampling_params,
      state.frozen["channel_std"],
      keys,
      condition,
      settings,
      guided=guided,
      allow_illegal=allow_illegal,
    )
    coefficients = sparse.to_coefficients(self.codec, elements)
    return task_lib.Samples(
      images=dct.to_image(self.codec, coefficients),
      sizes=condition.blocks * self.codec.block,
      tokens=elements,
      info=info,
    )

  def reconstruct(
    self, state: state_lib.State, batch: Mapping[str, jax.Array]
  ) -> jax.Array:
    """Decode each row's whole list: the codec's round trip, uint8 images."""
    del state
    elements = _elements(batch)
    return dct.to_image(
      self.codec, sparse.to_coefficients(self.codec, elements)
    )

  def train_flops(self, batch_size: int) -> float:
    """Count the floating-point operations of one training step."""
    return model.flops(self.model, batch_size)

  def batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Describe one training batch."""
    spec = lambda dtype, *shape: jax.ShapeDtypeStruct(
      (batch_size, *shape), dtype
    )
    lists = ("channel", "position", "value")
    numbers = ("length", "total", "chunk", "label", "example_id", "clipped")
    return {
      **{name: spec(jnp.int16, self.plan.max_elements) for name in lists},
      **{name: spec(jnp.int32) for name in numbers},
      **{name: spec(jnp.int32, 2) for name in ("size", "blocks")},
    }

  def _inputs(self, batch):
    """Return the chunk and the DCT image before it."""
    elements = _elements(batch)
    chunk = chunks.slice_chunk(self.codec, self.plan, elements, batch["chunk"])
    coefficients = sparse.to_coefficients(self.codec, elements, chunk.start)
    return chunk, coefficients

  def _loss(self, params, scale, batch, key):
    """Return (mean nats an element, metrics in bits)."""
    chunk, coefficients = self._inputs(batch)
    label = batch["label"]
    if self.class_drop and self.model.num_classes:
      drop = jax.random.bernoulli(
        jax.random.fold_in(key, 0), self.class_drop, label.shape
      )
      label = jnp.where(drop, self.model.num_classes, label)
    out = self.model.apply(
      params,
      chunk,
      coefficients,
      scale,
      label,
      batch["blocks"],
      train=True,
      rngs={"dropout": jax.random.fold_in(key, 1)},
    )
    bits = self._bits(out, chunk)
    total = bits["channel"] + bits["position"] + bits["value"]  # [b, t]
    weight = self._weight(batch)
    counted, held = (
      weight * mask for mask in (chunk.count_channel, chunk.count_element)
    )
    loss = metrics_lib.Mean.of(total * math.log(2.0), counted)
    metrics = {
      f"train/bits_{field}": metrics_lib.Mean.of(bits[field], weights)
      for field, weights in (
        ("channel", counted),
        ("position", held),
        ("value", held),
      )
    }
    metrics["train/bits_per_element"] = metrics_lib.Mean(
      jnp.sum(weight * total), jnp.sum(held)
    )
    return loss, metrics

  def _weight(self, batch):
    """Return what each row's chunk stands for, float32 [b, 1].

    Weighted, a chunk drawn with probability p stands for 1 / p of its kind, so
    that sums over a batch estimate those over all chunks.
    """
    if not self.weighted:
      return jnp.ones((len(batch["chunk"]), 1), jnp.float32)
    count = chunks.num_chunks(self.plan, batch["length"], batch["total"])
    weight = count * chunks.importance(self.plan, batch["chunk"], count)
    return weight[:, None]

  def _bits(self, out, chunk):
    """Return the cost of every slot by field, float32 [b, t]."""
    value = dct.value_class(self.codec, chunk.value)
    value = jnp.where(chunk.count_element, value, 0)
    channel = jnp.where(chunk.count_channel, chunk.channel, 0)
    fields = {
      "channel": (out.channel, channel, chunk.count_channel),
      "position": (out.position, chunk.position, chunk.count_element),
      "value": (out.value, value, chunk.count_element),
    }
    return {
      name: jnp.where(
        mask, logits_lib.cross_entropy(logits, target) / math.log(2.0), 0.0
      )
      for name, (logits, target, mask) in fields.items()
    }

  def _uniform_bits(self):
    codec = self.codec
    classes = codec.num_channels * codec.num_positions * codec.num_values
    return math.log2(classes)


def _elements(batch):
  """Widen a batch's lists to `sparse.Elements`."""
  wide = lambda name: batch[name].astype(jnp.int32)
  return sparse.Elements(
    channel=wide("channel"),
    position=wide("position"),
    value=wide("value"),
    length=batch["length"],
    total=batch["total"],
  )
