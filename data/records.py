"""Reading records, with a stand-in for every one that is unreadable.

The stand-in is the next readable index, so it depends on the dataset alone:
positions keep their place and a rerun sees the same examples.
"""

import logging
import threading
from typing import Any

import numpy as np

from data import decoding
from data import source as source_lib

_log = logging.getLogger(__name__)

# So many unreadable records in a row are no accident.
_MAX_RUN = 1000
# So many are named in the log; after that only powers of ten are.
_MAX_NAMED = 100


class Reader:
  """Reads from a source and remembers what could not be read. Thread-safe.

  Attributes:
    replaced: dataset index -> why it could not be used.
    failure: what ended the reading, for those who only see that it did.
  """

  def __init__(self, source: source_lib.Source):
    if not len(source):
      raise source_lib.DataError(f"{source.name} has no records")
    self.source = source
    self.replaced: dict[int, str] = {}
    self.failure: source_lib.DataError | None = None
    self._lock = threading.Lock()

  def read(self, indices: np.ndarray) -> list[dict[str, Any]]:
    """Return the records at `indices`, undecoded, each with its `index`.

    Those known to be unreadable are replaced by their stand-ins.
    """
    records = self.source.read(np.asarray(indices, np.int64))
    for i, index in enumerate(indices):
      records[i]["index"] = int(index)
      if int(index) in self.replaced:
        records[i] = self.stand_in(int(index))
    return records

  def decode(self, record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with its image and maps decoded, or its stand-in.

    `image` is uint8 [h, w, 3], maps are [h, w]. A record of codes is returned
    as it is. Raises DataError where no stand-in is found.
    """
    if not source_lib.has_pictures(self.source):
      return record
    try:
      return _decoded(record)
    except decoding.Unreadable as error:
      self.note(record["index"], record["name"], str(error))
      return self.stand_in(record["index"])

  def stand_in(self, index: int) -> dict[str, Any]:
    """Return the next readable record after `index`, decoded."""
    size = len(self.source)
    for step in range(1, min(size, _MAX_RUN)):
      other = (index + step) % size
      if other in self.replaced:
        continue
      (record,) = self.source.read(np.array([other]))
      try:
        return {**_decoded(record), "index": other}
      except decoding.Unreadable as error:
        self.note(other, record["name"], str(error))
    self.failure = source_lib.DataError(
      f"{self.source.name}: {min(size, _MAX_RUN)} records in a row are no "
      f"readable images (the first: {self.replaced[index]}); look at the files"
    )
    raise self.failure

  def note(self, index: int, name: str, reason: str) -> None:
    """Count an unreadable record and name it in the log, once."""
    with self._lock:
      if index in self.replaced:
        return
      self.replaced[index] = f"{name}: {reason}"
      count = len(self.replaced)
    if count <= _MAX_NAMED:
      _log.warning("unreadable image %s: %s", name, reason)
    if count >= _MAX_NAMED and count == 10 ** (len(str(count)) - 1):
      _log.warning("%d unreadable images in %s", count, self.source.name)


def _decoded(record):
  """Decode what comes as a file; raise Unreadable where that fails."""
  found = {**record, "image": decoding.to_rgb(record["image"])}
  for name in source_lib.MAPS:
    if name in record:
      dtype, _ = source_lib.FIELDS[name]
      try:
        found[name] = decoding.to_map(record[name], dtype)
      except decoding.Unreadable as error:
        raise decoding.Unreadable(f"{name}: {error}") from error
  return found
