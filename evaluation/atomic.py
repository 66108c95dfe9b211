"""Replaces a file in one step, on the disk before it has its name."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

# Files that a kill left half-written end so; they are nobody's.
SUFFIX = ".partial"


def replace(path: str | os.PathLike, write: Callable[[IO[bytes]], Any]) -> None:
  """Lets `write` fill a file beside `path`, then renames it over `path`."""
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  handle, partial = tempfile.mkstemp(
    prefix=f"{path.name}.", suffix=SUFFIX, dir=path.parent
  )
  try:
    with os.fdopen(handle, "wb") as file:
      write(file)
      file.flush()
      os.fsync(file.fileno())
    os.chmod(partial, 0o644)
    os.replace(partial, path)
  finally:
    with contextlib.suppress(FileNotFoundError):
      os.remove(partial)
