"""One process at a time in a directory."""

import fcntl
import io
import logging
import os

NAME = ".lock"  # of the file in the directory

_LOG = logging.getLogger(__name__)


class Locked(RuntimeError):
  """Another process holds the lock."""


def take(directory: str | os.PathLike) -> io.IOBase:
  """Takes the lock of a directory, until the file returned is closed.

  A file system without locks is warned of, and goes without.

  Raises:
    Locked: another process has it.
  """
  file = open(os.path.join(directory, NAME), "a")  # noqa: SIM115
  try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except (BlockingIOError, PermissionError) as error:
    file.close()
    raise Locked(f"another process is using {directory}") from error
  except OSError as error:
    _LOG.warning("%s cannot be locked (%s)", directory, error)
  return file
