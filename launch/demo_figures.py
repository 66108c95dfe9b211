"""What the demo says of its samples, by rules on their pixels.

Every figure stands beside a bar that a working model passes, and, where a label
matters, beside what a model that ignores its label would get.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from data.scenes import rules, scene

# The column of what chance gives: a model that ignores its label gets no more.
DEALT = "labels dealt out"


@dataclasses.dataclass(frozen=True)
class Figure:
  """A measured number.

  Attributes:
    name: what it is, with its unit.
    value: measured.
    low: least value that passes, or None.
    high: greatest value that passes, or None.
    blind: the value where labels are dealt out at random. A model that
      ignores its label gets the same of samples, and of likelihood something
      between the two. None where no label plays a part.
    note: what has to be said of it below the table, or "".
  """

  name: str
  value: float
  low: float | None = None
  high: float | None = None
  blind: float | None = None
  note: str = ""

  @property
  def passed(self) -> bool:
    """Whether the value lies within the bars."""
    above = self.low is None or self.value >= self.low
    return above and (self.high is None or self.value <= self.high)


@dataclasses.dataclass(frozen=True)
class Pictures:
  """Pictures and their classes: uint8 [n, h, w, 3], int [n]."""

  images: np.ndarray
  labels: np.ndarray


def of_samples(
  samples: Pictures,
  train: Pictures,
  held_out: Pictures,
  colour: float = 0.8,
) -> list[Figure]:
  """Measure colour, variety, place and novelty of samples.

  Args:
    samples: drawn with these labels.
    train: what the model learned from.
    held_out: what it never saw.
    colour: the least share of right colours that passes.
  """
  variety = within_class_distance(held_out.images, held_out.labels)
  blind = np.random.default_rng(0).permutation(samples.labels)
  as_many = held_out.images[: len(samples.images)]  # minima need equal counts
  return [
    Figure(
      "labelled colour right (share)",
      colour_right(samples),
      low=colour,
      blind=colour_right_blind(samples),
    ),
    Figure(
      "distance within a class (of real)",
      within_class_distance(samples.images, samples.labels) / variety,
      low=0.8,
      blind=within_class_distance(samples.images, blind) / variety,
    ),
    Figure(
      "place of the main object (total variation)",
      place_variation(samples.images, held_out.images),
      high=0.2,
    ),
    Figure(
      "closest to a training picture (of held-out's)",
      nearest(samples.images, train.images).min()
      / nearest(as_many, train.images).min(),
      low=1.0,
    ),
  ]


def of_lists(
  info: Mapping[str, np.ndarray], mean_length: float
) -> list[Figure]:
  """Measure stops, lengths and illegal moves of sampled lists.

  Args:
    info: of the samples, arrays [n].
    mean_length: of the data's lists.
  """
  ratio = float(np.mean(info["length"])) / mean_length
  return [
    Figure("stopped by themselves (share)", np.mean(info["stopped"]), low=0.95),
    Figure("mean length (of the data's)", ratio, low=0.85, high=1.15),
    Figure(
      "mass on illegal channels", np.mean(info["illegal_channel"]), high=0.02
    ),
    Figure(
      "mass on illegal positions", np.mean(info["illegal_position"]), high=0.02
    ),
  ]


def colour_right(pictures: Pictures) -> float:
  """Return the share whose main object has the label's colour."""
  return float(np.mean(rules.colour(pictures.images) == _colour(pictures)))


def colour_right_blind(pictures: Pictures) -> float:
  """Return the same for labels dealt out at random: what chance gives."""
  bins = len(scene.COLOURS) + 1  # the last holds "no object", -1
  read = np.bincount(rules.colour(pictures.images) % bins, minlength=bins)
  asked = np.bincount(_colour(pictures), minlength=bins)
  return float(read @ asked) / len(pictures.labels) ** 2


def within_class_distance(images: np.ndarray, labels: np.ndarray) -> float:
  """Return the mean over pairs of one class of their RMS pixel difference."""
  flat = images.reshape(len(images), -1).astype(np.float32)
  distances = []
  for label in np.unique(labels):
    rows = flat[labels == label]
    first, second = np.triu_indices(len(rows), k=1)
    difference = rows[first] - rows[second]
    distances.append(np.sqrt(np.mean(difference**2, axis=1)))
  distances = np.concatenate(distances)
  if not len(distances):
    raise ValueError("no class has two pictures: draw more samples")
  return float(np.mean(distances))


def place_variation(images: np.ndarray, others: np.ndarray) -> float:
  """Return the total variation between where main objects lie."""
  one, other = rules.place_histogram(images), rules.place_histogram(others)
  return float(np.abs(one - other).sum() / 2)


def nearest(images: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Return each picture's RMS pixel distance to the nearest other, [n]."""
  a = images.reshape(len(images), -1).astype(np.float32)
  b = others.reshape(len(others), -1).astype(np.float32)
  squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
  return np.sqrt(np.maximum(squares.min(axis=1), 0) / a.shape[1])


def rows(figures: Sequence[Figure]) -> list[dict[str, str]]:
  """Write figures out as cells: value, bar, labels dealt out, verdict."""
  labelled = any(figure.blind is not None for figure in figures)
  cells = []
  for figure in figures:
    row = {"figure": figure.name, "value": f"{figure.value:.3f}"}
    row["bar"] = bar(figure)
    if labelled:
      alike = figure.blind is None
      row[DEALT] = "the same" if alike else f"{figure.blind:.3f}"
    row["verdict"] = "" if figure.passed else "MISSED"
    cells.append(row)
  return cells


def table(figures: Sequence[Figure]) -> str:
  """Lay figures out for the terminal."""
  cells = rows(figures)
  names = list(cells[0])
  cells = [{"figure": "", "verdict": "", **{x: x for x in names[1:-1]}}, *cells]
  width = {name: max(len(row[name]) for row in cells) for name in names}
  lines = [
    "  ".join(
      f"{row[x]:>{width[x]}}" if x == "value" else f"{row[x]:<{width[x]}}"
      for x in names
    )
    for row in cells
  ]
  missed = sum(not figure.passed for figure in figures)
  if missed:
    lines.append(f"{missed} of {len(figures)} figures miss their bar")
  lines += notes(figures)
  return "\n".join(line.rstrip() for line in lines)


def notes(figures: Sequence[Figure]) -> list[str]:
  """Write out what has to be said of figures, a line each."""
  return [f"{figure.name}: {figure.note}" for figure in figures if figure.note]


def bar(figure: Figure) -> str:
  """Write the bar out, "" where there is none."""
  if figure.low is None and figure.high is None:
    return ""
  if figure.low is None:
    return f"<= {figure.high:g}"
  if figure.high is None:
    return f">= {figure.low:g}"
  return f"{figure.low:g} to {figure.high:g}"


def _colour(pictures):
  return np.asarray(pictures.labels) // len(scene.SHAPES)
