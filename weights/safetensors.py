"""Reads and writes `.safetensors`: named arrays and a few strings.

The format holds no code, so this is the one we write. Files are replaced
atomically and begin with their metadata.
"""

import contextlib
import os
import tempfile
from collections.abc import Mapping

import numpy as np
import safetensors as library
from safetensors import numpy as format


class SafetensorsError(ValueError):
  """A file that is not sound `.safetensors`."""


def save(
  path: str | os.PathLike,
  tensors: Mapping[str, np.ndarray],
  metadata: Mapping[str, str] | None = None,
) -> None:
  """Writes the arrays, any strides, replacing the file in one step.

  Raises:
    SafetensorsError: The format has no such element type.
  """
  path = os.fspath(path)
  folder = os.path.dirname(os.path.abspath(path))
  os.makedirs(folder, exist_ok=True)
  # The library writes memory as it lies: only contiguous arrays are right.
  dense = {
    name: np.asarray(array).copy(order="C") for name, array in tensors.items()
  }
  handle, partial = tempfile.mkstemp(suffix=".partial", dir=folder)
  os.close(handle)
  try:
    format.save_file(dense, partial, metadata=dict(metadata or {}))
    os.chmod(partial, 0o644)
    os.replace(partial, path)
  except library.SafetensorError as error:
    raise SafetensorsError(f"{path}: {error}") from error
  finally:
    with contextlib.suppress(FileNotFoundError):
      os.remove(partial)


def load(
  path: str | os.PathLike,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Returns the arrays and the metadata.

  Raises:
    SafetensorsError: The file is malformed or truncated.
    OSError: The file cannot be opened.
  """
  with open(path, "rb"):
    pass
  try:
    with library.safe_open(os.fspath(path), framework="numpy") as file:
      metadata = dict(file.metadata() or {})
      names = file.keys()
      return {name: file.get_tensor(name) for name in names}, metadata
  except (library.SafetensorError, KeyError, ValueError, TypeError) as error:
    raise SafetensorsError(f"{path}: {error}") from error
