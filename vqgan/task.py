"""The first stage as a task: two optimisers, one forward pass.

Batch rows (`vqgan.encode`): image uint8 or uint16 [b, h, w, c] scaled to
[-1, 1], or segmentation int [b, h, w] made one-hot; example_id int32 [b]. In
a state, params and opt_state are {"generator", "discriminator"}, ema is
{"generator"}, model_state {"quantizer", "discriminator"}, frozen {"lpips"}.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from einops import rearrange, repeat

from training import metrics as metrics_lib
from training import state as state_lib
from vqgan import adversary as adversary_lib
from vqgan import autoencoder, codebook, flops, frame, losses
from vqgan import quantizer as quantizer_lib
from vqgan import step as step_lib
from weights import lpips

TARGETS = ("image", "segmentation")
_LPIPS = "lpips/"  # prefix of its arrays in `measured`
_SEED_PIXELS = 8 * 256**2  # encoded at once for the first codebook


@dataclasses.dataclass(frozen=True)
class VQGANTask:
  """Pure functions of one first stage.

  Attributes:
    model: the autoencoder; its `dtype` is the compute precision.
    size: rows and columns of an image, multiples of the factor.
    tx: optimiser of the autoencoder.
    target: "image" (see `pixel`) or "segmentation" (cross-entropy).
    pixel: error of images, "l1" or "l2" (see `losses.pixel`).
    perceptual: weight of LPIPS; 0 needs no weights.
    codebook_weight: weight of the quantizer's loss.
    adversary: None trains without a discriminator.
    adversary_tx: optimiser of the discriminator.
    temperature: of a Gumbel quantizer: (start, end, steps) of its cosine.
    seed_codebook: put the first codebook on latents of real images.
    ema_decay: of the average of the autoencoder; None keeps none.
    accumulate: pieces that a batch's gradients are computed in. BatchNorm of
      the discriminator takes its statistics of a piece, over all devices, and
      its running ones move once a piece; uses of codes are of the batch.
    bits: of a channel of the input, 8 or 16.
  """

  model: autoencoder.Autoencoder
  size: tuple[int, int]
  tx: optax.GradientTransformation
  target: str = "image"
  pixel: str = "l1"
  perceptual: float = 1.0
  codebook_weight: float = 1.0
  adversary: adversary_lib.Adversary | None = None
  adversary_tx: optax.GradientTransformation | None = None
  temperature: tuple[float, float, int] = (0.9, 1e-6, 1_000_001)
  seed_codebook: bool = True
  ema_decay: float | None = None
  accumulate: int = 1
  bits: int = 8

  def __post_init__(self):
    shape, factor = self.model.shape, self.model.shape.factor
    if any(side % factor for side in self.size):
      raise ValueError(
        f"size {self.size} must be multiples of the factor {factor}: change "
        "data.size or model.multipliers"
      )
    if self.target not in TARGETS:
      raise ValueError(
        f'target "{self.target}": choose one of {", ".join(TARGETS)}'
      )
    if self.pixel not in losses.PIXEL_LOSSES:
      raise ValueError(
        f'pixel loss "{self.pixel}": choose one of '
        f"{', '.join(losses.PIXEL_LOSSES)}"
      )
    if self.target == "segmentation" and self.adversary is not None:
      raise ValueError(
        f"adversary.weight {self.adversary.weight}: a discriminator judges "
        "images, not label maps: set --config.adversary.weight=0"
      )
    seen = "segmentation" if self.target == "segmentation" else "image"
    if self.perceptual and (
      seen == "segmentation" or shape.in_channels not in (1, 3)
    ):
      raise ValueError(
        f"LPIPS compares images of 1 or 3 channels, not {seen}s of "
        f"{shape.in_channels}: set loss.perceptual to 0"
      )

  def measure(
    self, batches: Iterable[Mapping[str, np.ndarray]]
  ) -> dict[str, np.ndarray]:
    """Keep the images whose latents become the first codebook.

    They are spaced evenly over the batches.

    Returns:
      {"seeds": enough rows of the model's input for every code}.

    Raises:
      ValueError: there are no images, or their labels are none of the model.
    """
    tokens = math.prod(side // self.model.shape.factor for side in self.size)
    needed = max(16, -(-self.model.quantizer.num_codes // tokens))
    seeds = codebook.evenly(self._checked(batches), needed)
    if not len(seeds):
      raise ValueError("no images to seed the codebook: the split is empty")
    return {"seeds": seeds}

  def _checked(self, batches):
    """Yield the rows of batches; label maps hold classes of the model."""
    classes = frame.Classes(self.model.shape.in_channels)
    for batch in batches:
      rows = np.asarray(batch[self.input])
      mask = batch.get("mask", np.ones(len(rows), bool))
      for i in np.flatnonzero(mask):
        most = rows[i].max()
        if self.target == "segmentation" and most >= classes.num_labels:
          raise ValueError(classes.beyond(batch["example_id"][i], most))
        yield rows[i]

  def init(
    self, key: jax.Array, measured: Mapping[str, np.ndarray]
  ) -> state_lib.State:
    """Make the state of step 0.

    Args:
      key: a key.
      measured: "seeds" (see `measure`) where `seed_codebook`, and the arrays
        of LPIPS (see `lpips_arrays`) where `perceptual`.
    """
    keys = jax.random.split(key, 4)
    names = ("params", "dropout", "gumbel")
    pixels = self.pixels(self._blank(1))
    rngs = dict(zip(names, jax.random.split(keys[0], 3)))
    generator = self.model.init(rngs, pixels)["params"]
    codes = generator.get("quantizer", {})
    if self.seed_codebook and codes:
      latents = self._latents(generator, measured["seeds"])
      codes = codebook.seed(self.model.quantizer, codes, latents, keys[1])
      generator = {**generator, "quantizer": codes}
    params = {"generator": generator}
    opt_state = {"generator": self.tx.init(generator)}
    model_state = {
      "quantizer": codebook.initial_state(self.model.quantizer, codes)
    }
    if self.adversary is not None:
      critic, critic_state = self.adversary.init(keys[2], pixels)
      params["discriminator"] = critic
      opt_state["discriminator"] = self.adversary_tx.init(critic)
      model_state["discriminator"] = critic_state
    ema = None
    if self.ema_decay is not None:
      ema = {"generator": jax.tree.map(jnp.copy, generator)}
    return state_lib.State(
      step=jnp.zeros((), jnp.int32),
      params=params,
      ema=ema,
      opt_state=opt_state,
      model_state=model_state,
      frozen={"lpips": _lpips_tree(measured)} if self.perceptual else {},
    )

  def train_step(
    self, state: state_lib.State, batch: Mapping[str, jax.Array], key: jax.Array
  ) -> tuple[state_lib.State, metrics_lib.Metrics]:
    """Update the autoencoder, then the discriminator (see `vqgan.step`)."""
    return step_lib.train(self, state, batch, key)

  def eval_step(
    self, state: state_lib.State, batch: Mapping[str, jax.Array], key: jax.Array
  ) -> dict[str, jax.Array]:
    """Compare each row with its reconstruction.

    Returns:
      Float32 [b], 0 where masked. Images: `l1`, `psnr_db` (peak 2, clipped)
      and, with `perceptual`, `lpips`. Segmentations: `nats_per_label` and
      `accuracy`. Both: the `quantization_error` of learned codebooks, mean
      squared.
    """
    del key
    pixels = self.pixels(batch)
    made, _, z, quantized = self.apply(
      state.sampling_params["generator"], pixels
    )
    rows = {}
    if isinstance(self.model.quantizer, quantizer_lib.Nearest):
      error = self.model.quantizer.normal(z) - quantized.z
      rows["quantization_error"] = jnp.mean(error**2, (1, 2, 3))
    if self.target == "segmentation":
      rows["nats_per_label"] = losses.binary_cross_entropy(made, pixels)
      right = jnp.argmax(made, -1) == jnp.argmax(pixels, -1)
      rows["accuracy"] = jnp.mean(right.astype(jnp.float32), (1, 2))
    else:
      made = jnp.clip(made, -1.0, 1.0)
      square = losses.squared_error(made, pixels)
      rows["l1"] = losses.absolute_error(made, pixels)
      rows["psnr_db"] = 10 * jnp.log10(4.0 / jnp.maximum(square, 1e-10))
      if self.perceptual:
        rows["lpips"] = self._lpips(state.frozen, made, pixels)
    return {
      name: jnp.where(batch["mask"], row, 0.0) for name, row in rows.items()
    }

  def reconstruct(
    self, state: state_lib.State, batch: Mapping[str, jax.Array]
  ) -> jax.Array:
    """Return the reconstructions as pictures, uint8 [b, h, w, 3]."""
    made = self.apply(state.sampling_params["generator"], self.pixels(batch))[0]
    return self.picture(made)

  def picture(self, pixels: jax.Array) -> jax.Array:
    """Return pixels, or logits of labels, [b, h, w, c] as uint8 pictures."""
    if self.target == "segmentation":
      palette = np.random.RandomState(0).randint(
        0, 256, (self.model.shape.in_channels, 3)
      )
      return jnp.asarray(palette, jnp.uint8)[jnp.argmax(pixels, -1)]
    image = to_uint8(pixels)
    if image.shape[-1] == 1:
      image = repeat(image, "b h w 1 -> b h w c", c=3)
    return image[..., :3]

  def count_codes(
    self, state: state_lib.State, batch: Mapping[str, jax.Array]
  ) -> jax.Array:
    """Return how often each code occurs in the rows of a batch, [v]."""
    generator = state.sampling_params["generator"]
    codes = self.apply(generator, self.pixels(batch), method="tokenize")
    weights = jnp.broadcast_to(batch["mask"][:, None, None], codes.shape)
    num = jnp.zeros(self.model.quantizer.num_codes, jnp.float32)
    return num.at[codes.reshape(-1)].add(weights.reshape(-1).astype(num.dtype))

  def train_flops(self, batch_size: int) -> float:
    """Count the floating-point operations of one training step.

    With a discriminator, of a step in which all learn: before `start` and its
    warm-up a step has fewer, and perf/mfu is that much too high.
    """
    return batch_size * flops.train_step(self)

  def batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Describe one training batch."""
    ids = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    return {self.input: self._spec(batch_size), "example_id": ids}

  @property
  def input(self) -> str:
    """The name of the batch's array that is encoded."""
    return "segmentation" if self.target == "segmentation" else "image"

  def pixels(self, batch: Mapping[str, jax.Array]) -> jax.Array:
    """Return what the model reads, float32 [b, h, w, c]."""
    rows = batch[self.input]
    if self.target == "segmentation":
      return jax.nn.one_hot(rows, self.model.shape.in_channels)
    return rows.astype(jnp.float32) * (2.0 / (2**self.bits - 1)) - 1.0

  def apply(self, generator: Any, pixels: jax.Array, **options) -> Any:
    """Apply the autoencoder (see `Autoencoder.__call__`)."""
    return self.model.apply({"params": generator}, pixels, **options)

  def reconstruction(
    self, frozen: Mapping[str, Any], made: jax.Array, pixels: jax.Array
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return (reconstruction loss, its parts), means over the batch."""
    if self.target == "segmentation":
      loss = jnp.mean(losses.binary_cross_entropy(made, pixels))
      return loss, {"train/nats_per_label": loss}
    loss = losses.pixel(self.pixel, made, pixels)
    parts = {f"train/{self.pixel}": loss}
    if self.perceptual:
      distance = jnp.mean(self._lpips(frozen, made, pixels))
      parts["train/lpips"] = distance
      loss += self.perceptual * distance
    return loss, parts

  def _spec(self, batch_size):
    if self.target == "segmentation":
      return jax.ShapeDtypeStruct((batch_size, *self.size), jnp.uint8)
    return jax.ShapeDtypeStruct(
      (batch_size, *self.size, self.model.shape.in_channels),
      jnp.uint16 if self.bits == 16 else jnp.uint8,
    )

  def _blank(self, batch_size):
    spec = self._spec(batch_size)
    return {self.input: jnp.zeros(spec.shape, spec.dtype)}

  def _latents(self, generator, rows):
    """Return the latents [n, c] of rows, as many at once as memory holds."""
    encode = lambda row: self.apply(
      generator, self.pixels({self.input: row[None]}), method="encode"
    )[0]
    fitting = max(1, _SEED_PIXELS // math.prod(rows.shape[1:3]))
    size = min(len(rows), fitting)
    z = jax.lax.map(encode, jnp.asarray(rows), batch_size=size)
    return rearrange(z, "b h w c -> (b h w) c")

  def _lpips(self, frozen, made, pixels):
    if pixels.shape[-1] == 1:
      made, pixels = (
        repeat(x, "b h w 1 -> b h w c", c=3) for x in (made, pixels)
      )
    return lpips.distance(frozen["lpips"], made, pixels, dtype=self.model.dtype)


def to_uint8(pixels):
  """Return pixels [...] in [-1, 1], clipped, as uint8."""
  pixels = jnp.clip(pixels, -1.0, 1.0)
  return jnp.round((pixels + 1.0) * 127.5).astype(jnp.uint8)


def lpips_arrays(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Return the parameters of `weights.lpips` as flat arrays for `measured`."""
  flat = flax.traverse_util.flatten_dict(params, sep="/")
  return {f"{_LPIPS}{name}": np.asarray(x) for name, x in flat.items()}


def _lpips_tree(measured):
  flat = {
    name.removeprefix(_LPIPS): jnp.asarray(array)
    for name, array in measured.items()
    if name.startswith(_LPIPS)
  }
  if not flat:
    raise ValueError(
      "LPIPS has a weight but no parameters were given: set loss.perceptual "
      "to 0, or give the files of weights.lpips"
    )
  return flax.traverse_util.unflatten_dict(flat, sep="/")
