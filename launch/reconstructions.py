"""What a run reconstructs, beside the very pictures that it saw.

They come out of the same batch, so nothing can pair an image with another one's
original. Where a batch holds no picture, as lists and codes do, it is read
again by the number of its example.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from data import batches as batches_lib
from data import source as source_lib
from evaluation import image_sets
from launch import datasets, image_sources, runs, score_job, scores, tasks

Batch = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Some images, each of another example.

  Attributes:
    made: uint8 [b, h, w, 3], reconstructions.
    real: uint8 [b, h, w, 3], what they are of.
  """

  made: np.ndarray
  real: np.ndarray


class Reconstructions:
  """The examples of a split that can be read, with what a run makes of them."""

  def __init__(
    self,
    job: score_job.Job,
    source: source_lib.Source,
    make_batches: Callable[[], Iterable[Batch]],
  ):
    """Prepares; nothing is read.

    Args:
      job: the checkpoint; its `source` is not looked at.
      source: the split.
      make_batches: starts a pass over all its global evaluation batches, the
        same on every process.
    """
    self._job, self._source = job, source
    self._make_batches = make_batches
    self._picture = _picture(job.run)
    self._numbers: set[int] = set()  # of the examples of the last pass

  def pairs(self, count: int) -> Iterator[Pairs]:
    """Yields every example once, in order, `count` at a time.

    Raises:
      ImageSetError: they differ in size.
    """
    task: Any = self._job.run.task
    return self._pairs(count, jax.jit(task.reconstruct))

  def originals(self) -> image_sets.ImageSet | None:
    """Returns the pictures alone, without reconstructing any.

    None where they are those of `image_sources.from_run`.
    """
    if self._picture is None or datasets.in_numpy(self._job.run.config):
      return None
    pieces = lambda count: (x.real for x in self._pairs(count, None))
    return self.images(self._source.name, pieces)

  def images(
    self, name: str, pieces: Callable[[int], Iterator[np.ndarray]]
  ) -> image_sets.ImageSet:
    """Makes a set of what is taken of `pairs`: some may be unreadable."""
    total = len(self._source)
    left_out = lambda: sorted({*range(total)} - self._numbers)
    return image_sets.ImageSet(name, total, pieces, left_out=left_out)

  def _pairs(self, count, reconstruct) -> Iterator[Pairs]:
    """Yields pairs; without a function what is real stands for what is made."""
    size = self._job.args.size
    self._numbers.clear()
    made: list[np.ndarray] = []
    real: list[np.ndarray] = []
    for number, image, original in self._examples(reconstruct):
      self._numbers.add(number)
      h, w = original.shape[:2]
      made.append(image_sources.fit(image[:h, :w], size))
      real.append(image_sources.fit(original, size))
      if len(real) == count:
        yield _stacked(made, real)
        made, real = [], []
    if real:
      yield _stacked(made, real)

  def _examples(
    self, reconstruct
  ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yields each example's number, reconstruction and original, in order.

    A process with unreadable files runs ahead of the others: what it has waits
    until they are as far.
    """
    config = self._job.run.config
    plan = batches_lib.Plan(config.eval.batch_size, 1, 0, jax.process_count())
    waiting: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for rows, found in self._found(reconstruct):
      waiting |= found
      owners = plan.owners(rows)
      # Who has no rows has come to the end.
      reached = [rows[owners == x].max() for x in np.unique(owners)]
      passed = min(reached, default=len(self._source))
      for number in sorted(x for x in waiting if x <= passed):
        yield number, *waiting.pop(number)
    for number in sorted(waiting):
      yield number, *waiting[number]

  def _found(
    self, reconstruct
  ) -> Iterator[tuple[np.ndarray, dict[int, tuple[np.ndarray, np.ndarray]]]]:
    """Yields the examples in a batch, and what is new of them by number."""
    run, picture = self._job.run, None
    if self._picture is None:
      read = datasets.picture_reader(run.config, run.adapter, self._source)
    else:
      read, picture = None, jax.jit(self._picture)
    done: set[int] = set()
    for batch in self._make_batches():
      real = picture(batch) if picture else None
      made = reconstruct(self._job.state, batch) if reconstruct else None
      about = batch["example_id"], batch["mask"]
      made, real, ids, mask = scores.host((made, real, *about))
      # An example can be several rows; any has it all.
      rows = {int(ids[row]): row for row in np.flatnonzero(mask)}
      rows = {number: row for number, row in rows.items() if number not in done}
      done |= rows.keys()
      found = read(sorted(rows)) if read else {i: real[rows[i]] for i in rows}
      yield (
        ids[mask],
        {
          number: (original if made is None else made[rows[number]], original)
          for number, original in found.items()
        },
      )


def _picture(run: runs.Run) -> Callable[[Batch], jax.Array] | None:
  """Returns what takes uint8 pictures out of a batch; None: it has none."""
  task: Any = run.task
  if tasks.offers(task, "picture"):
    return lambda batch: task.picture(task.pixels(batch))
  spec = task.batch_spec(1).get("image")
  if spec is None or spec.dtype != np.uint8 or spec.shape[3:] != (3,):
    return None
  return lambda batch: batch["image"]


def _stacked(made, real) -> Pairs:
  return Pairs(
    image_sources.stack(made, "the reconstructions"),
    image_sources.stack(real, "the images"),
  )
