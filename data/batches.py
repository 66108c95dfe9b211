"""Which positions a process reads at a step, and rows to padded batches.

A row is a dict of arrays with a leading row axis [r, ...]: an image may give
several rows (chunks of its list). NumPy only; both pipelines stand on it.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np

Row = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Plan:
  """Who reads what. Step t holds the global positions t * e to (t + 1) * e.

  e = batch_size / rows_per_example. Process p of n has the p-th contiguous
  slice of every step, so the batch as a whole is independent of n.

  Attributes:
    batch_size: rows in a global batch.
    rows_per_example: rows that every example gives.
    process_index: this process.
    process_count: of so many.
  """

  batch_size: int
  rows_per_example: int
  process_index: int
  process_count: int

  def __post_init__(self):
    share = self.rows_per_example * self.process_count
    if self.batch_size < 1 or self.batch_size % share:
      raise ValueError(
        f"batch_size {self.batch_size} must be a multiple of {share} "
        f"({self.rows_per_example} rows per example x {self.process_count} "
        "processes)"
      )
    if not 0 <= self.process_index < self.process_count:
      raise ValueError(
        f"process_index {self.process_index} must be in "
        f"0..{self.process_count - 1}"
      )

  @property
  def local_size(self) -> int:
    """Rows in this process's slice of a batch."""
    return self.batch_size // self.process_count

  @property
  def local_examples(self) -> int:
    """Examples in this process's slice of a batch."""
    return self.local_size // self.rows_per_example

  def positions(self, start: int, count: int) -> np.ndarray:
    """Return the global positions of this process's examples, int64 [count].

    `start` counts this process's own examples: step t begins at
    t * local_examples.
    """
    step, slot = np.divmod(np.arange(start, start + count), self.local_examples)
    part = step * self.process_count + self.process_index
    return part * self.local_examples + slot

  def slots(self, size: int) -> np.ndarray:
    """Return which of 0..size-1 this process evaluates, rising, int64."""
    slot = np.arange(size)
    return slot[self.owners(slot) == self.process_index]

  def owners(self, slots: np.ndarray) -> np.ndarray:
    """Return the process that evaluates each of `slots`, int64 [k]."""
    return slots % self.batch_size // self.local_size

  def num_batches(self, size: int) -> int:
    """Return the batches of one pass where every example gives one row."""
    return -(-size // self.batch_size)


class Batches(Iterator[Row]):
  """An iterator of batches that tells what it had to replace.

  Attributes:
    replaced: dataset index -> name and reason of each unreadable image.
  """

  def __init__(self, iterator: Iterator[Row], replaced: dict[int, str]):
    self._iterator = iterator
    self.replaced = replaced

  def __next__(self) -> Row:
    return next(self._iterator)


def stack(rows: list[Row]) -> Row:
  """Concatenate rows along their leading axis."""
  return {name: np.concatenate([r[name] for r in rows]) for name in rows[0]}


def num_rows(row: Row) -> int:
  """Return the length of the leading axis; raises ValueError if they differ."""
  lengths = {name: leaf.shape[:1] for name, leaf in row.items()}
  if len(set(lengths.values())) != 1 or () in lengths.values():
    raise ValueError(
      f"encode must return arrays with one leading row axis; got {lengths}"
    )
  return next(iter(lengths.values()))[0]


def check_rows(row: Row, expected: int) -> None:
  """Raise ValueError where an example gave another number of rows."""
  if num_rows(row) != expected:
    raise ValueError(
      f"encode returned {num_rows(row)} rows, rows_per_example is {expected}"
    )


def rebatch(rows: Iterable[Row], size: int) -> Iterator[Row]:
  """Regroup rows to batches of `size`, the last one possibly smaller."""
  held, count = [], 0
  for row in rows:
    held.append(row)
    count += num_rows(row)
    while count >= size:
      whole = stack(held)
      yield {name: leaf[:size] for name, leaf in whole.items()}
      held = [{name: leaf[size:] for name, leaf in whole.items()}]
      count -= size
  if count:
    yield stack(held)


def padded(
  batches: Iterable[Row],
  size: int,
  at_least: int,
  filler: Callable[[], Row],
) -> Iterator[Row]:
  """Pad every batch to `size` and add `mask` (bool [size], True where real).

  Padding repeats the first row, so it is as legal as any other. Where there
  are fewer than `at_least` batches, more follow that are masked throughout;
  `filler` gives a row for them if there was no batch at all.
  """
  count, last = 0, None
  for batch in batches:
    last = _pad(batch, size, num_rows(batch))
    yield last
    count += 1
  if count < at_least and last is None:
    last = filler()
  while count < at_least:
    last = {name: leaf for name, leaf in last.items() if name != "mask"}
    last = _pad(last, size, 0)
    yield last
    count += 1


def _pad(batch: Row, size: int, real: int) -> Row:
  rows = num_rows(batch)
  take = np.where(np.arange(size) < rows, np.arange(size), 0)
  batch = {name: leaf[take] for name, leaf in batch.items()}
  return {**batch, "mask": np.arange(size) < real}
