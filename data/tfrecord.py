"""Random access to TFRecord files, through an index of where records begin.

Datasets that were prepared before as TFRecord stay usable with the same order
of examples and the same instant resume. Making the index reads twelve bytes a
record; it is kept in a small file beside the data, or in the user's cache
folder where the data is read-only.
"""

import hashlib
import os
import pathlib
import struct
import threading
from collections.abc import Sequence

import numpy as np

from data import source

# Length (8 bytes), its checksum (4), the data, their checksum (4).
_HEAD, _TAIL = 12, 4


class Records:
  """Reads records of TFRecord files by number; safe from several threads.

  Args:
    spans: (path, first record, one past the last) in order.
    index_dir: where the index may be written, if it can be.

  Raises DataError for a file that is no TFRecord or is cut off.
  """

  def __init__(
    self, spans: Sequence[tuple[str, int, int]], index_dir: str
  ) -> None:
    self._paths = [path for path, _, _ in spans]
    self._starts = []
    for path, first, last in spans:
      starts = _index(path, index_dir)
      if last > len(starts):
        raise source.DataError(
          f"{path} has {len(starts)} records where {last} are expected; "
          "prepare the dataset again"
        )
      self._starts.append(starts[first:last])
    self._ends = np.cumsum([len(starts) for starts in self._starts])
    self._files: dict[int, int] = {}
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return int(self._ends[-1]) if len(self._ends) else 0

  def __getitems__(self, indices: Sequence[int]) -> list[bytes]:
    return [self[index] for index in indices]

  def __getitem__(self, index: int) -> bytes:
    shard = int(np.searchsorted(self._ends, index, side="right"))
    starts = self._starts[shard]
    start = int(starts[index - self._ends[shard] + len(starts)])
    file = self._open(shard)
    (length,) = struct.unpack("<Q", os.pread(file, 8, start))
    return os.pread(file, length, start + _HEAD)

  def _open(self, shard):
    with self._lock:
      if shard not in self._files:
        self._files[shard] = os.open(self._paths[shard], os.O_RDONLY)
      return self._files[shard]

  def __del__(self):
    for file in getattr(self, "_files", {}).values():
      os.close(file)


def _index(path: str, index_dir: str) -> np.ndarray:
  """Where each record of a file begins, int64 [n]; from a file or a scan."""
  stat = os.stat(path)
  key = f"{os.path.realpath(path)} {stat.st_size} {stat.st_mtime_ns}"
  name = f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npy"
  folders = [
    pathlib.Path(index_dir),
    pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    / "tessera"
    / "tfrecord",
  ]
  for folder in folders:
    try:
      return np.load(folder / name)
    except (OSError, ValueError, EOFError):
      continue
  starts = _scan(path, stat.st_size)
  for folder in folders:
    temporary = folder / f"{name}.{os.getpid()}.{threading.get_ident()}"
    try:
      folder.mkdir(parents=True, exist_ok=True)
      with open(temporary, "wb") as file:
        np.save(file, starts)
      os.replace(temporary, folder / name)
      break
    except OSError:
      temporary.unlink(missing_ok=True)
  return starts


def _scan(path: str, size: int) -> np.ndarray:
  starts, start = [], 0
  file = os.open(path, os.O_RDONLY)
  try:
    while start < size:
      head = os.pread(file, 8, start)
      length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
      end = start + _HEAD + length + _TAIL
      if end > size:
        raise source.DataError(
          f"{path} is cut off or no TFRecord file (at byte {start} of {size}); "
          "prepare the dataset again"
        )
      starts.append(start)
      start = end
  finally:
    os.close(file)
  return np.array(starts, np.int64)
