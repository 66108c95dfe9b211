"""Nearest neighbours of samples in a training set: is it memory or making?

Squared distances are computed in blocks as matrix products on the host;
nothing but a block of them is ever held. Letters: `n m` examples, `d` features.
"""

import dataclasses
from pathlib import Path
from typing import IO

import matplotlib.figure
import numpy as np

from evaluation import moments

_BLOCK = 1024
_NEAR = 0.01


@dataclasses.dataclass(frozen=True)
class Neighbours:
  """The k nearest, nearest first.

  Attributes:
    indices: [n, k] into the other set.
    distances: Euclidean, [n, k] float32.
  """

  indices: np.ndarray
  distances: np.ndarray


def find(
  queries: np.ndarray,
  among: np.ndarray,
  k: int = 1,
  block: int = _BLOCK,
  exclude_self: bool = False,
) -> Neighbours:
  """Finds the k nearest of `among` for each of `queries`.

  Args:
    queries: Features [n, d].
    among: Features [m, d].
    k: How many.
    block: Rows of both sets at a time.
    exclude_self: Leave row i out for query i; for a set with itself.

  Raises:
    FeatureError: Widths differ, features are not finite or too few.
  """
  queries, among = moments.check_finite(queries), moments.check_finite(among)
  moments.check_width(queries, among)
  if len(among) < k + exclude_self:
    raise moments.FeatureError(f"{len(among)} examples have no {k} neighbours")
  centre = np.float64(among).mean(0)
  queries, among = queries - centre, among - centre
  squares = np.full((len(queries), k), np.inf)
  indices = np.zeros((len(queries), k), np.int64)
  for start in range(0, len(among), block):
    part = among[start : start + block]
    numbers = np.arange(start, start + len(part))
    for first in range(0, len(queries), block):
      rows = slice(first, first + block)
      x = queries[rows]
      found = (
        np.einsum("nd,nd->n", x, x)[:, None]
        + np.einsum("nd,nd->n", part, part)
        - 2 * (x @ part.T)
      )
      if exclude_self:
        found[numbers == np.arange(first, first + len(x))[:, None]] = np.inf
      both = np.concatenate([squares[rows], found], 1)
      named = np.concatenate(
        [indices[rows], np.broadcast_to(numbers, found.shape)], 1
      )
      # Equal distances go to the lowest number, whatever the blocks.
      order = np.argsort(both, axis=1, kind="stable")[:, :k]
      squares[rows] = np.take_along_axis(both, order, 1)
      indices[rows] = np.take_along_axis(named, order, 1)
  distances = np.sqrt(np.maximum(squares, 0)).astype(np.float32)
  return Neighbours(indices, distances)


def memorised_fraction(
  samples: np.ndarray, training: np.ndarray, held_out: np.ndarray
) -> float:
  """Returns the share of samples nearer to training images than is natural.

  A sample counts where its distance to the nearest training image is below
  the 1% quantile of that of held-out images: about 0.01 for a model that
  does not copy.
  """
  natural = find(held_out, training).distances[:, 0]
  found = find(samples, training).distances[:, 0]
  return float((found < np.quantile(natural, _NEAR)).mean())


def figure(
  samples: np.ndarray,
  neighbours: np.ndarray,
  distances: np.ndarray,
  natural: np.ndarray,
  path: str | Path | IO[bytes],
) -> None:
  """Draws each sample beside its neighbours, with their distances.

  Args:
    samples: uint8 [n, h, w, 3].
    neighbours: uint8 [n, k, h, w, 3].
    distances: [n, k].
    natural: Distances of held-out images to their nearest, [m]; a sample that
      is nearer than 99% of them has its distance in red.
    path: The picture's file, or an open one.
  """
  near = np.quantile(natural, _NEAR)
  rows, columns = neighbours.shape[:2]
  chart = matplotlib.figure.Figure(
    figsize=(1.3 * (columns + 1), 1.45 * rows), layout="constrained"
  )
  chart.suptitle(
    "samples and their nearest training pictures, distances of features\n"
    f"(held-out pictures: median {np.median(natural):.2f}, closest 1% below"
    f" {near:.2f})",
    fontsize=8,
  )
  axes = chart.subplots(rows, columns + 1, squeeze=False)
  for i in range(rows):
    for j, image in enumerate([samples[i], *neighbours[i]]):
      axes[i, j].imshow(image, interpolation="nearest")
      axes[i, j].set_axis_off()
      text = "sample" if j == 0 else f"{distances[i, j - 1]:.2f}"
      copied = j > 0 and distances[i, j - 1] < near
      colour = "tab:red" if copied else "black"
      axes[i, j].set_title(text, fontsize=7, color=colour)
  chart.savefig(path, dpi=120)
