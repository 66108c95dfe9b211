"""SUNDAE samples on request: labels, steps, larger canvases, inpainting.

Shapes: b samples, h w rows and columns of codes, H W of pixels, t steps.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from launch import animation
from launch import request as request_lib
from sundae import decode, masks
from sundae import task as task_lib
from training import state as state_lib
from training import task as task_protocol
from vqgan import arrays, frame, tokenizer

Sampler = Callable[[state_lib.State, np.ndarray], task_protocol.Samples]
# What shows the unknown part of a given picture.
_GREY = 127
# Lists of labels are padded to a multiple of this.
_LABELS = 128


@dataclasses.dataclass(frozen=True)
class Given:
  """A picture to inpaint, on its canvas.

  Attributes:
    rows: what the first stage reads, uint8 [1, H, W, c] of the model's size.
    image: the same in colour on the canvas, uint8 [H, W, 3].
    known: bool [H, W] of the canvas.
    keep: bool [h, w] of the canvas, which codes are kept.
    corner: row and column of the picture on the canvas, in codes.
  """

  rows: np.ndarray
  image: np.ndarray
  known: np.ndarray
  keep: np.ndarray
  corner: tuple[int, int]

  def arrays(self) -> dict[str, np.ndarray]:
    """Returns all but the corner, by name."""
    names = ("rows", "image", "known", "keep")
    return {name: getattr(self, name) for name in names}


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
  turn; without any, what is inpainted has the null class, which then has to be
  trained. The samples' info has `steps` and `stopped`, `given` with a picture,
  and `history` where an animation is asked for: codes [b, t, h, w], of the
  steps that it shows.

  Another seed, picture, mask or setting of the steps compiles nothing anew, nor
  do other labels (each 128 more of them do) or compositing. Guidance, a picture
  or none, another size or place on it, and the number of steps of an animation
  do.

  Raises:
    ValueError: the request does not fit the model.
  """
  del config, measured
  num_classes = task.model.num_classes
  null = bool(num_classes and task.class_drop)
  request_lib.need_class(request, num_classes, null)
  labels = request_lib.labels(request, num_classes, null)
  guided = request_lib.guided(request, null)
  if guided and (labels == num_classes).all():
    raise ValueError(
      f"guidance {request.guidance} changes nothing of the null class, which "
      "a given picture has without labels: give labels"
    )
  grid = canvas(task, request)
  if request.animate and grid != task.model.grid:
    raise ValueError("a larger size has no animation: leave out --animate")
  given = read_given(task, request, grid)
  settings = make_settings(request)
  frames = int(settings.steps + settings.argmax) + 1 if request.animate else 0

  drawing = _Drawing(
    task,
    grid,
    guided,
    frames,
    corner=given.corner if given else None,
  )
  inputs = {
    # NumPy: the same on every process.
    "key": np.asarray(jax.random.key_data(key)),
    "labels": np.pad(labels, (0, -len(labels) % _LABELS)),
    "num_labels": np.int32(len(labels)),
    "settings": settings,
    "given": given.arrays() if given else None,
    "composite": np.bool_(request.composite),
  }
  return lambda state, indices: _draw(drawing, state, indices, **inputs)


@dataclasses.dataclass(frozen=True)
class _Drawing:
  """What a program is compiled for; all else are its inputs.

  Attributes:
    task: the model's.
    grid: h and w of the samples.
    guided: see `decode.sample`.
    frames: see `decode.sample`.
    corner: see `Given`; None without one.
  """

  task: task_lib.SundaeTask
  grid: tuple[int, int]
  guided: bool
  frames: int
  corner: tuple[int, int] | None


@partial(jax.jit, static_argnums=0)
def _draw(
  drawing,
  state,
  indices,
  *,
  key,
  labels,
  num_labels,
  settings,
  given,
  composite,
):
  """Draw the samples of global indices [b].

  Args:
    drawing: `_Drawing`.
    state: a state.
    indices: int32 [b].
    key: the data of the job's key.
    labels: int32, of which the first `num_labels` count.
    num_labels: int32.
    settings: `decode.Settings`.
    given: None, or the arrays of `Given`.
    composite: bool, whether to put known pixels back.
  """
  task, frames = drawing.task, drawing.frames
  key = jax.random.wrap_key_data(key)
  keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(indices)
  label = labels[indices % num_labels]
  condition = decode.nothing_given(label, drawing.grid)
  if given:
    condition = _condition(drawing, state, condition, given)
  samples = task.sample(
    state,
    keys,
    condition,
    settings,
    guided=drawing.guided,
    frames=frames,
    start=drawing.corner,
  )
  images, info = samples.images, {**samples.info, "label": label}
  if frames:
    info["history"] = info["history"][:, animation.chosen(frames)]
  if given:
    grey = jnp.full_like(given["image"], _GREY)
    shown = masks.composite(grey, given["image"], given["known"])
    info["given"] = jnp.broadcast_to(shown, images.shape)
    put_back = given["known"] & composite
    images = masks.composite(images, given["image"], put_back)
  return samples.replace(images=images, info=info)


def decode_history(
  task: task_lib.SundaeTask, state: state_lib.State, history: np.ndarray
) -> np.ndarray:
  """Returns the pictures uint8 [b, t, H, W, 3] of codes int32 [b, t, h, w]."""
  decoded = jax.jit(task.decode)
  steps = np.moveaxis(history, 1, 0)
  return np.stack([decoded(state.frozen, codes) for codes in steps], axis=1)


def make_settings(request: request_lib.Request) -> decode.Settings:
  """Makes the settings of the steps."""
  denoising = request.denoising
  assert denoising is not None  # every config of this task has it
  return decode.Settings.create(
    denoising.steps,
    (request.temperature, denoising.end_temperature),
    (denoising.proportion, denoising.end_proportion),
    min_steps=denoising.min_steps,
    agreed=denoising.agreed,
    top_k=request.top_k,
    top_p=request.top_p,
    guidance=request.guidance,
    confident=denoising.confident,
    confidence_noise=denoising.confidence_noise,
    argmax=denoising.argmax,
  )


def canvas(
  task: task_lib.SundaeTask, request: request_lib.Request
) -> tuple[int, int]:
  """Returns h and w of the samples.

  Raises:
    ValueError: the size is not one that windows can fill.
  """
  grid, factor = tuple(task.model.grid), task.tokenizer.factor
  if request.size is None:
    return grid
  sides = tuple(side // factor for side in request.size)
  whole = all(side % factor == 0 for side in request.size)
  if not whole or any(a < b for a, b in zip(sides, grid)):
    raise ValueError(
      f"size {request.size[0]}x{request.size[1]} must be multiples of {factor}"
      f" from {grid[0] * factor}x{grid[1] * factor} on"
    )
  return sides


def read_given(
  task: task_lib.SundaeTask,
  request: request_lib.Request,
  grid: tuple[int, int],
) -> Given | None:
  """Brings the request's picture and mask to the model's size; None for none.

  They are made as small as covers that size, cut to its middle, and lie where
  the request says, or in the middle, of the canvas of (h, w) = `grid` codes.

  Raises:
    ValueError: there is nothing to make, the mask has another size than the
      picture, the picture cannot lie there, or the model reads no pictures.
  """
  if request.image is None:
    return None
  if not tokenizer.reads_pictures(task.tokenizer):
    raise ValueError("only models of pictures can inpaint")
  if request.known is None or request.known.shape != request.image.shape[:2]:
    raise ValueError("known must be a mask of the size of the given picture")
  factor = task.tokenizer.factor
  size = tuple(factor * side for side in task.model.grid)
  ids = {"label": 0, "example_id": 0}
  framed = lambda channels: arrays.make_eval_encode(
    frame.Frame(size, channels=channels)
  )({"image": request.image, **ids}, None)["image"]
  known = _resized_mask(request.known, size)
  corner = _corner(task, request, grid)
  top, left = (factor * x for x in corner)
  place = np.s_[top : top + size[0], left : left + size[1]]
  whole = tuple(factor * side for side in grid)
  canvas_known = np.zeros(whole, bool)
  canvas_known[place] = known
  image = np.full((*whole, 3), _GREY, np.uint8)
  image[place] = framed(3)[0]
  keep = masks.kept_codes(canvas_known, factor)
  if keep.all():
    raise ValueError(
      "the mask leaves nothing to make: white is what is made anew"
    )
  channels = task.tokenizer.spec(1).shape[-1]
  return Given(framed(channels), image, canvas_known, keep, corner)


def _corner(task, request, grid):
  """Return row and column of the picture on a canvas, in codes."""
  spare = tuple(a - b for a, b in zip(grid, task.model.grid))
  if request.at is None:
    return tuple(side // 2 for side in spare)
  factor = task.tokenizer.factor
  corner = tuple(place // factor for place in request.at)
  # Elsewhere than on whole codes the picture's own could not be kept.
  whole = all(place % factor == 0 for place in request.at)
  if not whole or any(not 0 <= a <= b for a, b in zip(corner, spare)):
    steps = f"in steps of {factor} " if factor > 1 else ""
    last = ",".join(str(factor * side) for side in spare)
    raise ValueError(
      f"at {request.at[0]},{request.at[1]} must be {steps}from 0,0 to {last}, "
      "so that the picture lies within the size"
    )
  return corner


def _resized_mask(known, size):
  """Bring what is known to a size; a pixel is known where all of its were."""
  framing = frame.Frame(size, target="segmentation")
  for axis, length in enumerate(framing.resized(*known.shape)):
    known = _resized_axis(known, length, axis)
  record = {"segmentation": known.astype(np.uint8), "label": 0, "example_id": 0}
  row = arrays.make_eval_encode(framing)(record, None)
  return row["segmentation"][0].astype(bool)


def _resized_axis(known, length, axis):
  have = known.shape[axis]
  if length >= have:
    nearest = (2 * np.arange(length) + 1) * have // (2 * length)
    return known.take(nearest, axis)
  # Where each pixel's middle falls: in one of the smaller, and in no other.
  owners = (2 * np.arange(have) + 1) * length // (2 * have)
  first = np.searchsorted(owners, np.arange(length))
  return np.logical_and.reduceat(known, first, axis=axis)


def _condition(drawing, state, empty, given):
  """Return the condition of samples that keep codes of a picture."""
  task, params = drawing.task, state.frozen.get("tokenizer", {})
  found = task.tokenizer.encode(params, given["rows"])  # [1, h, w]
  codes = jax.lax.dynamic_update_slice(
    empty.codes[:1], found.astype(empty.codes.dtype), (0, *drawing.corner)
  )
  return empty.replace(
    codes=jnp.broadcast_to(codes, empty.codes.shape),
    keep=jnp.broadcast_to(given["keep"], empty.keep.shape),
  )
