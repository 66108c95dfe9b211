"""What a user asks of a sampler, whatever the model."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np


@dataclasses.dataclass(frozen=True)
class Denoising:
  """How a model that denoises in steps is asked to; see `sundae.decode`.

  Attributes:
    steps: at most that many.
    min_steps: before a sample may stop by itself.
    agreed: only where all codes are drawn as they are, not where none changed.
    end_temperature: of the last step; the first has the request's.
    proportion: that the first step accepts of drawn codes.
    end_proportion: of the last step.
    confident: accept the likeliest of those that change, not any.
    argmax: one more, greedy step.
    confidence_noise: scale of the noise on their order.
  """

  steps: int
  min_steps: int
  end_temperature: float
  proportion: float
  end_proportion: float
  confident: bool
  argmax: bool
  confidence_noise: float = 1.0
  agreed: bool = False


@dataclasses.dataclass(frozen=True)
class Request:
  """Settings of a sampling job; an adapter refuses what it cannot do.

  Attributes:
    temperature: 0 is greedy. It and the next two are three numbers where each
      field of a DCT list has its own.
    top_k: 0 keeps all.
    top_p: 1 keeps all.
    guidance: weight of the condition; 1 is the plain model.
    labels: classes, taken in turn; None takes all in turn.
    size: height and width in pixels; None draws them as in the data.
    given: None, or how `image` conditions: "upsample", "colorize",
      "complete" or "inpaint".
    image: uint8 [h, w, 3].
    fraction: of the list, or of the picture, that "complete" keeps.
    condition: what a conditional model is to obey: a map or picture, array as
      it was stored, or values of JSON; None takes those of the dataset.
    denoising: None for models that do not denoise in steps.
    known: bool [h, w], what "inpaint" keeps of the image.
    at: row and column, in pixels of `size`, of the upper left corner of what
      "inpaint" is given; None puts it in the middle.
    composite: put the known pixels back, exactly.
    animate: None, or the kind of `launch.animation` that shows the steps.
    score: None, or the name of the function (`launch.judge`) that chooses.
    acceptance: share of the draws that it accepts.
  """

  temperature: float | Sequence[float] = 1.0
  top_k: int | Sequence[int] = 0
  top_p: float | Sequence[float] = 1.0
  guidance: float = 1.0
  labels: Sequence[int] | None = None
  size: tuple[int, int] | None = None
  given: str | None = None
  image: np.ndarray | None = None
  fraction: float = 0.0
  condition: Any = None
  denoising: Denoising | None = None
  known: np.ndarray | None = None
  at: tuple[int, int] | None = None
  composite: bool = False
  animate: str | None = None
  score: str | None = None
  acceptance: float = 1.0


def from_config(config: ml_collections.ConfigDict, **fields) -> Request:
  """Return the settings of `config.sample`, with some fields replaced.

  Fields of `Denoising` are given as those of `Request` are. A temperature or
  proportion alone is that of the last step too.

  Raises:
    ValueError: noise on an order that is not asked for.
  """
  sample = config.sample
  defaults = {
    "temperature": sample.temperature,
    "top_k": sample.top_k,
    "top_p": sample.top_p,
    "guidance": sample.guidance,
  }
  given = {name: x for name, x in fields.items() if x is not None}
  if "steps" in sample:
    given["denoising"] = _denoising(sample, given)
  return Request(**{**defaults, **given})


def labels(request: Request, num_classes: int, null: bool) -> np.ndarray:
  """Return the labels that samples take in turn, int32.

  All of them by default; of a given picture the class is unknown, and then it
  is the null class if there is one.

  Args:
    request: asks for labels, or not.
    num_classes: of the model.
    null: whether the null class, label `num_classes`, was trained.

  Raises:
    ValueError: labels that the model does not have.
  """
  if request.labels is None:
    if null and request.given:
      return np.full(1, num_classes, np.int32)
    return np.arange(max(num_classes, 1), dtype=np.int32)
  if not num_classes:
    raise ValueError("labels were given, but the model has no classes")
  most = num_classes if null else num_classes - 1
  wrong = [x for x in request.labels if not 0 <= x <= most]
  if wrong:
    raise ValueError(
      f"label {wrong[0]} must be between 0 and {num_classes - 1}"
      + (f", or {most}, the null class" if null else "")
    )
  return np.asarray(request.labels, np.int32)


def need_class(request: Request, num_classes: int, null: bool) -> None:
  """Check that the class of a given picture need not be guessed.

  Args:
    request: asks for labels, or not.
    num_classes: of the model.
    null: whether the null class was trained, which stands for any.

  Raises:
    ValueError: several classes, no null class, and no labels.
  """
  if request.given and request.labels is None and num_classes > 1 and not null:
    raise ValueError(
      f"which of the {num_classes} classes the given picture has is unknown, "
      "and the model has no null class: give --labels=K"
    )


def guided(request: Request, null: bool) -> bool:
  """Say whether samples are guided, which takes the model twice.

  Raises:
    ValueError: guidance of a model whose null class was not trained.
  """
  if request.guidance != 1.0 and not null:
    raise ValueError(
      f"guidance {request.guidance} needs a model with classes that was trained"
      " with model.class_drop above 0"
    )
  return request.guidance != 1.0


def _denoising(sample, given) -> Denoising:
  """Take what is given out of `given`, and the rest from the config.

  Fields of `Denoising` that the config of an older run lacks have defaults.
  """
  for name in ("temperature", "proportion"):
    if name in given:
      given.setdefault(f"end_{name}", given[name])
  names = [field.name for field in dataclasses.fields(Denoising)]
  fields = {name: sample[name] for name in names if name in sample}
  asked = {name: given.pop(name) for name in names if name in given}
  fields |= asked
  if "confidence_noise" in asked and not fields["confident"]:
    raise ValueError(
      f"confidence_noise {asked['confidence_noise']} is of the order of "
      "confidence: ask for confident too"
    )
  return Denoising(**fields)
