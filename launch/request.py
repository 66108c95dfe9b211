"""What a user asks of a sampler, whatever the model."""

import dataclasses
from collections.abc import Sequence

import ml_collections
import numpy as np


@dataclasses.dataclass(frozen=True)
class Request:
  """Settings of a sampling job; an adapter refuses what it cannot do.

  Attributes:
    temperature: 0 is greedy.
    top_k: 0 keeps all.
    top_p: 1 keeps all.
    guidance: weight of the condition; 1 is the plain model.
    labels: classes, taken in turn; None takes all in turn.
    size: height and width in pixels; None draws them as in the data.
    given: None, or how `image` conditions: "upsample", "colorize" or
      "complete".
    image: uint8 [h, w, 3].
    fraction: of the list that "complete" keeps.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  guidance: float = 1.0
  labels: Sequence[int] | None = None
  size: tuple[int, int] | None = None
  given: str | None = None
  image: np.ndarray | None = None
  fraction: float = 0.0


def from_config(config: ml_collections.ConfigDict, **fields) -> Request:
  """Return the settings of `config.sample`, with some fields replaced."""
  sample = config.sample
  defaults = {
    "temperature": sample.temperature,
    "top_k": sample.top_k,
    "top_p": sample.top_p,
    "guidance": sample.guidance,
  }
  given = {name: x for name, x in fields.items() if x is not None}
  return Request(**{**defaults, **given})
