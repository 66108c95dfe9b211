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
  pictures: Iterable[np.ndarray],
  shape: tuple[int, ...],
  arrays: Mapping[str, np.ndarray],
) -> None:
  """Writes `arr_0` and other arrays, as `numpy.load` reads them.

  Args:
    file: open for writing in binary.
    pictures: uint8 [n, *shape[1:]] each, together of `shape`.
    shape: of `arr_0`.
    arrays: by name.

  Raises:
    ValueError: the pictures are not of that shape.
  """
  header = {"descr": "|u1", "fortran_order": False, "shape": shape}
  count = 0
  with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as held:
    with held.open(f"{PICTURES}.npy", "w", force_zip64=True) as to:
      np.lib.format.write_array_header_1_0(to, header)
      for part in pictures:
        if part.dtype != np.uint8 or part.shape[1:] != shape[1:]:
          raise ValueError(f"{part.dtype} {part.shape} does not fit {shape}")
        to.write(np.ascontiguousarray(part).data)
        count += len(part)
    if count != shape[0]:
      raise ValueError(f"{count} pictures, not {shape[0]}")
    for name, array in arrays.items():
      with held.open(f"{name}.npy", "w", force_zip64=True) as to:
        np.lib.format.write_array(to, np.asarray(array), allow_pickle=False)
