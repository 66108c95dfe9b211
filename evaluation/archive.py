"""An `.npz` whose pictures are written and read one part at a time.

`numpy.savez` and `numpy.load` want all of them in memory: 50,000 pictures of
256 pixels are 10 GB.
"""

import contextlib
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import IO

import numpy as np

PICTURES = "arr_0"  # what savez calls its first array, and evaluators read

_HEADERS = {
  (1, 0): np.lib.format.read_array_header_1_0,
  (2, 0): np.lib.format.read_array_header_2_0,
}


class Damaged(ValueError):
  """An `.npz` that is broken or holds no pictures."""


def write(
  file: IO[bytes],
  arrays: Mapping[str, np.ndarray],
  pictures: Iterable[np.ndarray] = (),
  shape: tuple[int, ...] | None = None,
) -> None:
  """Writes arrays and, with a shape, `arr_0`, as `numpy.load` reads them.

  Args:
    file: open for writing in binary.
    arrays: by name.
    pictures: uint8 [n, *shape[1:]] each, together of `shape`.
    shape: of `arr_0`.

  Raises:
    ValueError: the pictures are not of that shape.
  """
  with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as held:
    if shape is not None:
      with _member(held, PICTURES) as member:
        _write_parts(member, pictures, shape)
    for name, array in arrays.items():
      with _member(held, name) as member:
        np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def header(path: str | os.PathLike) -> tuple[tuple[int, ...], np.dtype]:
  """Returns the shape and the type of `arr_0`.

  Raises:
    Damaged: it is absent or cannot be read.
  """
  with _reading(path) as (_, shape, dtype):
    return shape, dtype


def read(path: str | os.PathLike, size: int) -> Iterator[np.ndarray]:
  """Yields `arr_0` in order, `size` rows at a time.

  Raises:
    Damaged: it is absent, truncated or cannot be read.
  """
  with _reading(path) as (file, shape, dtype):
    row = int(np.prod(shape[1:])) * dtype.itemsize
    for start in range(0, shape[0], size):
      count = min(size, shape[0] - start)
      try:
        raw = file.read(count * row)
      except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise Damaged(f"{path} is damaged: {error}") from error
      if len(raw) != count * row:
        raise Damaged(f"{path}: arr_0 is truncated")
      yield np.frombuffer(raw, dtype).reshape(count, *shape[1:])


def _member(held: zipfile.ZipFile, name: str) -> IO[bytes]:
  return held.open(f"{name}.npy", "w", force_zip64=True)


def _write_parts(file, parts, shape):
  header = {"descr": "|u1", "fortran_order": False, "shape": shape}
  # ADM's evaluator streams this version of the format only.
  np.lib.format.write_array_header_1_0(file, header)
  count = 0
  for part in parts:
    if part.dtype != np.uint8 or part.shape[1:] != shape[1:]:
      raise ValueError(f"{part.dtype} {part.shape} does not fit {shape}")
    file.write(np.ascontiguousarray(part).data)
    count += len(part)
  if count != shape[0]:
    raise ValueError(f"{count} pictures, not {shape[0]}")


@contextlib.contextmanager
def _reading(path):
  """Opens `arr_0` as a stream: file, shape, type."""
  with contextlib.ExitStack() as stack:
    try:
      held = stack.enter_context(zipfile.ZipFile(path))
      if f"{PICTURES}.npy" not in held.namelist():
        raise Damaged(
          f"{path} has no arr_0: it holds no images but"
          f" {', '.join(held.namelist()[:6])}"
        )
      file = held.open(f"{PICTURES}.npy")
      version = np.lib.format.read_magic(file)
      if version not in _HEADERS:
        raise Damaged(f"{path}: arr_0 has format {version}")
      shape, fortran, dtype = _HEADERS[version](file)
    except Damaged:
      raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
      raise Damaged(f"{path} cannot be read: {error}") from error
    if fortran or dtype.hasobject:
      raise Damaged(f"{path}: arr_0 is not in C order")
    yield file, shape, dtype
