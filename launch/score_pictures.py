"""Pictures that explain scores: samples, nearest neighbours, and classes.

They go to RUN/samples, where launch.report finds them.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from data import order
from data import source as source_lib
from evaluation import (
  atomic,
  features,
  generation,
  image_sets,
  nearest,
  per_class,
)
from launch import datasets, errors, image_sources, pictures, runs, scores

_SHOWN = 12
_NEIGHBOURS = 5
_HELD_OUT = 1000
_SAMPLES = 1000
# Of the sheet of samples: pictures in a row, and the width of a row in pixels.
_COLUMNS, _WIDEST = 8, 1024


@dataclasses.dataclass(frozen=True)
class Drawn:
  """A run's samples and what they are looked at with.

  Attributes:
    run: the run.
    step: of its checkpoint.
    samples: of the sampling job.
    source: the training split.
    pool: features of some of the split's images, [n, d].
    places: which images they are of, int [n].
    net: the network.
    size: side of the central square, or 0.
    batch: images at a time.
  """

  run: runs.Run
  step: int
  samples: generation.Samples
  source: source_lib.Source
  pool: np.ndarray
  places: np.ndarray
  net: features.Network
  size: int
  batch: int

  def picture(self, name: str) -> Path:
    """Returns the path of a picture of this step."""
    return _path(self.run.workdir, self.step, name)


def sheet(workdir: Path, step: int, images: image_sets.ImageSet) -> None:
  """Writes a sheet of the first samples that are scored, on process 0."""
  if jax.process_index() != 0:
    return
  first = next(images.pieces(1))
  columns = min(_COLUMNS, max(1, _WIDEST // first.shape[2]))
  count = min(columns * columns, images.num)
  shown = np.concatenate(list(images.take(count).pieces(count)))
  grid = Image.fromarray(pictures.grid(shown, columns=columns))
  path = _path(workdir, step, "scored")
  atomic.replace(path, lambda file: grid.save(file, format="png"))


def _path(workdir: Path, step: int, name: str) -> Path:
  return workdir / "samples" / f"{step}-{name}.png"


def neighbours(
  drawn: Drawn, images: Any, found: features.Features
) -> dict[str, float]:
  """Draws samples beside their nearest training images.

  Args:
    drawn: see there.
    images: the set of the samples.
    found: their features, `pool` kept.

  Returns:
    The share of samples nearer to training images than 99% of held-out images
    are (0.01 is natural), and both median distances.
  """
  fake = found.kept["pool"][:_SAMPLES]
  run, net = drawn.run, drawn.net
  held = datasets.open_source(run.config, run.config.data.eval_split)
  held = source_lib.Part(held, order.subset(_HELD_OUT, len(held)))
  real = scores.extract(
    image_sources.from_run(run, held, drawn.size),
    net,
    drawn.batch,
    keep=("pool",),
  ).kept["pool"]
  near = nearest.find(fake, drawn.pool, k=min(_NEIGHBOURS, len(drawn.pool)))
  natural = nearest.find(real, drawn.pool)
  count = min(_SHOWN, len(fake))
  shown = near.indices[:count]
  training = image_sources.from_run(
    run,
    source_lib.Part(drawn.source, drawn.places[shown.reshape(-1)]),
    drawn.size,
  )
  close = np.concatenate(list(training.pieces(64)))
  close = close.reshape(*shown.shape, *close.shape[1:])
  first = next(images.take(count).pieces(count))
  if jax.process_index() == 0:
    atomic.replace(
      drawn.picture("nearest"),
      lambda file: nearest.figure(
        first,
        close[: len(first)],
        near.distances,
        natural.distances[:, 0],
        file,
      ),
    )
  return {
    "memorised_fraction": nearest.memorised_fraction(fake, drawn.pool, real),
    "nearest_median": float(np.median(near.distances[:, 0])),
    "nearest_median_held_out": float(np.median(natural.distances)),
  }


def classes(drawn: Drawn, found: features.Features) -> dict[str, float]:
  """Draws precision and recall of each class.

  Returns:
    Their means over classes, and the lowest recall.

  Raises:
    CommandError: too few images a class.
  """
  indices = drawn.places
  labels = np.array(
    [
      record["label"]
      for start in range(0, len(indices), 1024)
      for record in drawn.source.read(indices[start : start + 1024])
    ]
  )
  parts = [part["labels"] for part in drawn.samples.parts(["labels"])]
  scored = per_class.precision_recall(
    drawn.pool, labels, found.kept["pool"], np.concatenate(parts)
  )
  if not scored:
    raise errors.CommandError(
      "no class has more than 3 images in both sets: raise --num_samples"
    )
  if jax.process_index() == 0:
    names = drawn.source.class_names
    atomic.replace(
      drawn.picture("per-class"),
      lambda file: per_class.figure(scored, names, file),
    )
  recall = [c.recall for c in scored]
  return {
    "class_precision_mean": float(np.mean([c.precision for c in scored])),
    "class_recall_mean": float(np.mean(recall)),
    "class_recall_lowest": float(np.min(recall)),
    "classes": float(len(scored)),
  }
