"""The order of examples: a pure function of (seed, position), in NumPy.

Position counts examples from the start of the run. Epoch e covers positions
e * size to (e + 1) * size and visits every index once. Nothing is stored: a
checkpoint holds the position, and any slice of the order is computed directly.

The permutation of an epoch is a Feistel network over pairs of digits (Black &
Rogaway 2002, "Ciphers with arbitrary finite domains"): an index is a * right +
left with a * b just above `size`, each round adds a hash of one digit to the
other, and results outside 0..size-1 go round again.
"""

import numpy as np

_ROUNDS = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def indices(seed: int, start: int, count: int, size: int) -> np.ndarray:
  """Return the dataset indices at positions start..start+count, int64 [count].

  Raises ValueError for an empty dataset or a negative position.
  """
  return indices_at(seed, np.arange(start, start + count), size)


def indices_at(seed: int, positions: np.ndarray, size: int) -> np.ndarray:
  """Return the dataset indices at any positions (int [k]), int64 [k]."""
  if size < 1:
    raise ValueError(f"size {size} must be at least 1: the dataset is empty")
  positions = _checked(positions)
  epoch, offset = np.divmod(positions, size)
  return _permute(_key(seed, 0, epoch), offset, size)


def seeds(seed: int, positions: np.ndarray) -> np.ndarray:
  """Return a random seed for each position, non-negative int32 [k, 2]."""
  words = _key(seed, 1, _checked(positions))
  halves = np.stack([words >> np.uint64(33), words & np.uint64(0x7FFFFFFF)], -1)
  return halves.astype(np.int32)  # [k, 2]


def subset(limit: int | None, size: int) -> np.ndarray:
  """Return `limit` evenly spaced indices in rising order, int64 [<= size].

  Evenly spaced, because a folder of class folders is sorted by class: its
  first records would be one class.
  """
  if limit is None or limit >= size:
    return np.arange(size)
  if limit < 1:
    raise ValueError(f"limit {limit} must be at least 1, or None for all")
  return np.arange(limit) * size // limit


def _checked(positions):
  positions = np.asarray(positions, np.int64)
  if positions.size and positions.min() < 0:
    raise ValueError(f"position {positions.min()} must not be negative")
  return positions


def _key(seed: int, stream: int, number: np.ndarray) -> np.ndarray:
  """Hash (seed, stream, number) to uint64, elementwise in `number`."""
  base = np.asarray([seed & 0xFFFFFFFFFFFFFFFF], np.uint64)
  base = _mix(_mix(base) + np.uint64(stream))
  return _mix(base + number.astype(np.uint64) * _GOLDEN)


def _permute(key: np.ndarray, offset: np.ndarray, size: int) -> np.ndarray:
  """Apply the permutation named by each key to each offset, int64."""
  a = int(np.ceil(np.sqrt(size)))
  b = -(-size // a)
  result = offset.astype(np.int64)
  todo = np.arange(len(result))
  while len(todo):
    left, right = result[todo] % a, result[todo] // a
    for step in range(_ROUNDS):
      if step % 2:
        right = (right + _digit(key[todo], step, left, b)) % b
      else:
        left = (left + _digit(key[todo], step, right, a)) % a
    result[todo] = left + a * right
    todo = todo[result[todo] >= size]
  return result


def _digit(key: np.ndarray, step: int, digit: np.ndarray, base: int):
  word = _mix(_mix(key ^ np.uint64(step)) ^ digit.astype(np.uint64))
  return (word % np.uint64(base)).astype(np.int64)


def _mix(x: np.ndarray) -> np.ndarray:
  """Finalise splitmix64 (Steele, Lea & Flood 2014); uint64 wraps around."""
  x = x + _GOLDEN
  x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return x ^ (x >> np.uint64(31))
