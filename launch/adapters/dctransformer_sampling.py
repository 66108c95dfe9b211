"""DCTransformer samples on request: labels, sizes and given prefixes."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from dctransformer import arrays, dct, decode, frame, pictures, prefix, sparse
from dctransformer import task as task_lib
from launch import request as request_lib
from training import state as state_lib
from training import task as task_protocol

# Folded into a sample's key to draw its size; element numbers are smaller.
_SIZE = np.uint32(2**32 - 1)


def make_sampler(
  config: ml_collections.ConfigDict,
  task: task_lib.DCTransformerTask,
  measured: Mapping[str, np.ndarray],
  key: jax.Array,
  request: request_lib.Request,
) -> Callable[[state_lib.State, np.ndarray], task_protocol.Samples]:
  """Make the compiled sampler (state, global indices [b]) -> Samples.

  Sample i has the key fold_in(key, i) and the i-th of the requested labels, in
  turn. Sizes are drawn as often as in the data, unless requested or given with
  an image. Temperature, top-k and top-p are one number or three, of channel,
  position and value.

  Raises:
    ValueError: the request does not fit the model.
  """
  num_classes = task.model.num_classes
  null = bool(num_classes and task.class_drop)
  labels = request_lib.labels(request, num_classes, null)
  guided = request_lib.guided(request, null)
  settings = decode.Settings.create(
    request.temperature, request.top_k, request.top_p, request.guidance
  )
  sizes, share = _sizes(task.codec, measured, request)
  given, first_rank = None, 0
  if request.given:
    first_rank = prefix.first_rank(task.codec, request.given)
    given, blocks = _given(config, task, request)
    sizes, share = blocks[None], np.ones(1)

  @jax.jit
  def run(state, indices, settings):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(indices)
    u = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, _SIZE)))
    size = jnp.searchsorted(jnp.asarray(share), u(keys))
    size = jnp.minimum(size, len(sizes) - 1)
    count = len(indices)
    if given is None:
      start = decode.empty_prefix(count, task.plan.max_elements)
    else:
      start = jax.tree.map(lambda x: jnp.repeat(x, count, axis=0), given)
    condition = decode.Condition(
      label=jnp.asarray(labels)[indices % len(labels)],
      blocks=jnp.asarray(sizes)[size],
      prefix=start,
      first_rank=jnp.full((count,), first_rank, jnp.int32),
    )
    samples = task.sample(state, keys, condition, settings, guided=guided)
    info = {**samples.info, "label": condition.label}
    info["length"] = samples.tokens.length
    return samples.replace(info=info)

  return lambda state, indices: run(state, indices, settings)


def illustrate(
  task: task_lib.DCTransformerTask, tokens: sparse.Elements
) -> dict[str, np.ndarray]:
  """Draw what lists look like: rows of pictures by name, [b, ..., h, w, 3].

  `heat_maps` [b, h, w, 3] and `progressive` [b, stages, h, w, 3].
  """
  longest = int(np.max(tokens.length))
  lengths = pictures.doubling(task.plan.chunk_len, longest)
  # One chunk says little of a short list: begin with its coarse bands.
  early = [length for length in (16, 32, 64) if length < lengths[0]]
  return {
    "heat_maps": pictures.heat_maps(task.codec, tokens),
    "progressive": pictures.progressive(task.codec, tokens, early + lengths),
  }


def _sizes(codec, measured, request):
  """Return sizes in blocks [k, 2] and their cumulative shares [k]."""
  if request.size is None:
    count = np.asarray(measured["size_counts"], np.float64)
    share = np.cumsum(count) / count.sum()
    return np.asarray(measured["sizes"], np.int32), share.astype(np.float32)
  unit = 2 * codec.block
  most = (codec.rows * codec.block, codec.cols * codec.block)
  for side, limit in zip(request.size, most):
    if side % unit or not 0 < side <= limit:
      raise ValueError(
        f"size {request.size[0]}x{request.size[1]} must be multiples of {unit}"
        f" up to {most[0]}x{most[1]}"
      )
  blocks = np.asarray([request.size], np.int32) // codec.block
  return blocks, np.ones(1, np.float32)


def _given(config, task, request):
  """Return the prefix [1, m] of the request's image, and its size in blocks."""
  codec = task.codec
  image = request.image
  resize = config.data.resize or max(codec.rows, codec.cols) * codec.block
  if request.given == "upsample" and max(image.shape[:2]) < resize:
    # A pixel of the small picture becomes a block: its value is the block's DC.
    image = _enlarge(image, resize)
  framing = frame.make(codec, resize, config.data.fit)
  image, _ = arrays.apply_frame(framing, image)
  coefficients = dct.to_coefficients(codec, image[None])
  elements = sparse.to_elements(codec, coefficients, task.plan.max_elements)
  start = prefix.take(codec, elements, request.given, request.fraction)
  blocks = np.asarray(image.shape[:2], np.int32) // codec.block
  return start, blocks


def _enlarge(image, resize):
  side = max(image.shape[:2])
  rows, cols = (
    np.arange(max(1, round(n * resize / side))) * side // resize
    for n in image.shape[:2]
  )
  rows, cols = (
    np.minimum(index, n - 1) for index, n in zip((rows, cols), image.shape[:2])
  )
  return image[rows][:, cols]
