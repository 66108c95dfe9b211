"""An `.npz` whose pictures are written one part at a time.

`numpy.savez` wants all of them in memory: 50,000 pictures of 256 pixels are
10 GB.
"""

import zipfile
from collections.abc import Iterable, Mapping
from typing import IO

import numpy as np

PICTURES = "arr_0"  # what savez calls its first array, and evaluators read


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
