"""A frozen first stage: images to codes and back. What priors see of VQGAN.

Shapes: b batch, h w rows and columns of the code grid, H W of the image, c
channels, v codes. Those without a network are in `vqgan.pixel_codes`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

import flax
import jax
import jax.numpy as jnp
import numpy as np

from vqgan import autoencoder, quantizer
from vqgan import task as task_lib


class Tokenizer(Protocol):
  """Encodes and decodes by parameters that are passed in (`State.frozen`).

  All but `fingerprint` is pure and may be jitted.
  """

  @property
  def num_codes(self) -> int:
    """v."""
    ...

  @property
  def factor(self) -> int:
    """Pixels per code along one axis."""
    ...

  @property
  def grid(self) -> tuple[int, int]:
    """h and w."""
    ...

  @property
  def width(self) -> int:
    """c of `embed`."""
    ...

  @property
  def input(self) -> str:
    """The name of the batch's array that is encoded."""
    ...

  def spec(self, batch_size: int) -> jax.ShapeDtypeStruct:
    """Describe that array."""
    ...

  def encode(self, params: Any, rows: jax.Array) -> jax.Array:
    """Return the codes int32 [b, h, w] of rows [b, H, W, c]."""
    ...

  def decode(self, params: Any, codes: jax.Array) -> jax.Array:
    """Return the pictures uint8 [b, H, W, 3] of codes [b, h, w]."""
    ...

  def embed(self, params: Any, codes: jax.Array) -> jax.Array:
    """Return the latents float32 [b, h, w, c] of codes [b, h, w]."""
    ...

  def fingerprint(self, params: Any) -> str:
    """Return 16 hexadecimal digits; where they agree, the codes do."""
    ...


def read(
  tokenizer: Tokenizer, params: Any, batch: Mapping[str, jax.Array]
) -> jax.Array:
  """Return the codes int32 [b, h, w] of a batch: its own, or those of its rows.

  Args:
    tokenizer: of the second stage.
    params: its parameters.
    batch: with `codes` (any integers) or with `tokenizer.input`.
  """
  if "codes" in batch:
    return batch["codes"].astype(jnp.int32)
  codes = tokenizer.encode(params, batch[tokenizer.input])
  return jax.lax.stop_gradient(codes)


def reads_pictures(tokenizer: Tokenizer) -> bool:
  """Say whether it encodes pictures of 8 bits: no label maps, and no depth.

  The rows of depth, uint16, are called `image` too.
  """
  rows = tokenizer.spec(1)
  return tokenizer.input == "image" and rows.dtype == jnp.uint8


@dataclasses.dataclass(frozen=True)
class VQGAN:
  """A trained first stage as a `Tokenizer`.

  Attributes:
    task: its settings; `size` is that of the images to encode, and the model's
      `dtype` the precision of encoding. Decoding is float32 whatever it is.
  """

  task: task_lib.VQGANTask

  @property
  def num_codes(self) -> int:
    """v."""
    return self.task.model.quantizer.num_codes

  @property
  def factor(self) -> int:
    """Pixels per code along one axis."""
    return self.task.model.shape.factor

  @property
  def grid(self) -> tuple[int, int]:
    """h and w."""
    return tuple(side // self.factor for side in self.task.size)

  @property
  def width(self) -> int:
    """c of `embed`."""
    return self.task.model.quantizer.width

  @property
  def input(self) -> str:
    """The name of the batch's array that is encoded."""
    return self.task.input

  def spec(self, batch_size: int) -> jax.ShapeDtypeStruct:
    """Describe that array."""
    return self.task.batch_spec(batch_size)[self.input]

  def encode(self, params: Any, rows: jax.Array) -> jax.Array:
    """Return the codes int32 [b, h, w] of rows as `vqgan.encode` gives them.

    Args:
      params: of the autoencoder.
      rows: uint8 [b, H, W, c] (uint16 for depth), or labels [b, H, W]; H and
        W are multiples of the factor.
    """
    pixels = self.task.pixels({self.task.input: rows})
    # On TPU the default float32 product is bfloat16: codes would differ.
    float32 = jnp.dtype(self.task.model.dtype) == jnp.float32
    exact = "highest" if float32 else None
    with jax.default_matmul_precision(exact):
      return self.task.apply(params, pixels, method="tokenize")

  def decode(self, params: Any, codes: jax.Array) -> jax.Array:
    """Return the pictures uint8 [b, H, W, 3] of codes [b, h, w]."""
    model = self.task.model.clone(dtype=jnp.float32)
    task = dataclasses.replace(self.task, model=model)
    return task.picture(task.apply(params, codes, method="decode"))

  def embed(self, params: Any, codes: jax.Array) -> jax.Array:
    """Return the latents float32 [b, h, w, c] of codes [b, h, w]."""
    module = self.task.model.quantizer
    return module.apply(
      {"params": params.get("quantizer", {})}, codes, method="embed"
    )

  def fingerprint(self, params: Any) -> str:
    """Return 16 hexadecimal digits of the settings and the parameters.

    Two tokenizers with the same digits give the same codes, but for ties that
    another compiler or device rounds the other way. bfloat16 moves latents
    across more than ties, so a precision other than float32 counts. Call it
    outside of jit: it reads every parameter.
    """
    model = self.task.model
    module = model.quantizer
    settings = {
      "shape": dataclasses.asdict(model.shape),
      "quantizer": [type(module).__name__, module.num_codes, module.width],
      "unit": getattr(module, "unit", False),
      "levels": getattr(module, "levels", None),
      "target": self.task.target,
      "bits": self.task.bits,
    }
    for name in ("dropout", "remat"):  # they change no code
      del settings["shape"][name]
    if jnp.dtype(model.dtype) != jnp.float32:
      settings["dtype"] = jnp.dtype(model.dtype).name
    return fingerprint(settings, params)


def fingerprint(settings: Mapping[str, Any], params: Any) -> str:
  """Return 16 hexadecimal digits of plain settings and of every parameter."""
  text = json.dumps(settings, sort_keys=True)
  digest = hashlib.sha256(text.encode())
  flat = flax.traverse_util.flatten_dict(params, sep="/")
  for name in sorted(flat):
    array = np.ascontiguousarray(jax.device_get(flat[name]))
    digest.update(f"{name} {array.dtype} {array.shape}".encode())
    digest.update(array.tobytes())
  return digest.hexdigest()[:16]


def keep_codes(
  tokenizer: VQGAN, params: Mapping[str, Any], used: np.ndarray
) -> tuple[VQGAN, dict[str, Any]]:
  """Return the tokenizer with only the codes in use, and its parameters.

  A vocabulary of 16,384 of which 973 occur is then one of 973. Code i of the
  result is code used[i] of the original; a latent whose code is gone gets
  the nearest one that is left.

  Args:
    tokenizer: a tokenizer.
    params: its parameters.
    used: int [u], ascending codes to keep.

  Raises:
    ValueError: the quantizer has no codebook, or `used` is out of order or
      range.
  """
  model = tokenizer.task.model
  module, used = model.quantizer, np.asarray(used)
  if isinstance(module, quantizer.Finite):
    raise ValueError("finite scalar quantization has no codebook to cut")
  inside = used.size and used[0] >= 0 and used[-1] < module.num_codes
  if not inside or (np.diff(used) <= 0).any():
    raise ValueError(
      f"codes to keep must ascend within 0..{module.num_codes - 1}: {used[:8]}"
    )
  codes = {"codebook": jnp.asarray(params["quantizer"]["codebook"])[used]}
  if isinstance(module, quantizer.Gumbel):
    logits = params["quantizer"]["logits"]
    codes["logits"] = jax.tree.map(lambda x: x[..., used], dict(logits))
  module = module.clone(num_codes=len(used))
  model = autoencoder.Autoencoder(model.shape, module, model.dtype)
  task = dataclasses.replace(tokenizer.task, model=model)
  return VQGAN(task), {**params, "quantizer": codes}
