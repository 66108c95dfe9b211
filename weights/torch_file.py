"""Reads PyTorch's weight files without PyTorch and without executing anything.

Both formats of `torch.save`: the zip (since 1.6; Lightning's `.ckpt` too) and
the older stream, which begins with the bytes 80 02. Tensors come back as
read-only NumPy views of the mapped file, so storages stay shared and nothing
is read that is not used; bfloat16 and the 8-bit floats through ml_dtypes.
Plain containers come back as themselves. Everything else becomes an inert
`pickle_machine.Stub` and is reported by name.

A file whose every tensor costs memory only once may claim at most
`8 * its size + 64 MiB` of tensors; `pickle_machine` bounds the rest.
"""

import dataclasses
import math
import mmap
import os
import struct
from typing import Any

import ml_dtypes
import numpy as np

from weights import pickle_machine, stored_zip

MAX_PICKLE = 64 << 20
_STREAM_MAGIC = 0x1950A86A20F9469CFC6C
_STREAM_PROTOCOL = 1001

_STORAGES = {
  "DoubleStorage": np.float64,
  "FloatStorage": np.float32,
  "HalfStorage": np.float16,
  "BFloat16Storage": ml_dtypes.bfloat16,
  "LongStorage": np.int64,
  "IntStorage": np.int32,
  "ShortStorage": np.int16,
  "CharStorage": np.int8,
  "ByteStorage": np.uint8,
  "BoolStorage": np.bool_,
  "ComplexFloatStorage": np.complex64,
  "ComplexDoubleStorage": np.complex128,
  "UntypedStorage": np.uint8,
}
_DTYPES = {
  "torch.float64": np.float64,
  "torch.float32": np.float32,
  "torch.float16": np.float16,
  "torch.bfloat16": ml_dtypes.bfloat16,
  "torch.float8_e4m3fn": ml_dtypes.float8_e4m3fn,
  "torch.float8_e5m2": ml_dtypes.float8_e5m2,
  "torch.int64": np.int64,
  "torch.int32": np.int32,
  "torch.int16": np.int16,
  "torch.int8": np.int8,
  "torch.uint64": np.uint64,
  "torch.uint32": np.uint32,
  "torch.uint16": np.uint16,
  "torch.uint8": np.uint8,
  "torch.bool": np.bool_,
  "torch.complex64": np.complex64,
  "torch.complex128": np.complex128,
}


class TorchFileError(ValueError):
  """A PyTorch file that is malformed, truncated, hostile or of no known kind.

  The message names the file and what is wrong with it.
  """


@dataclasses.dataclass(frozen=True)
class Contents:
  """What a file holds.

  Attributes:
    value: The saved object: containers, scalars, arrays and stubs.
    stubs: The sorted names of the globals that were replaced by stubs.
  """

  value: Any
  stubs: tuple[str, ...]


def read(path: str | os.PathLike) -> Contents:
  """Reads one file; the arrays in it are read-only and may share memory.

  Raises:
    TorchFileError: The contents are not a sound PyTorch file.
    OSError: The file cannot be opened.
  """
  with open(path, "rb") as file:
    size = os.fstat(file.fileno()).st_size
    if size == 0:
      raise TorchFileError(f"{path}: the file is empty")
    data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
  head = bytes(data[:4])
  try:
    if head[:2] == b"PK":
      return _read_zip(data)
    if head[:1] == b"\x80":
      return _read_stream(data)
  except (pickle_machine.PickleError, stored_zip.ZipError) as error:
    raise TorchFileError(f"{path}: {error}") from error
  raise TorchFileError(
    f"{path}: begins with {head!r}; a PyTorch file begins with 'PK' (zip)"
    " or 80 02 (stream)"
  )


def state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Returns a file's named tensors, and nothing else.

  The mapping is the file's own, or the one under its key `state_dict`, as
  Lightning saves it.

  Raises:
    TorchFileError: As `read`, or there are no named tensors in the file.
  """
  value = read(path).value
  if isinstance(value, dict) and isinstance(value.get("state_dict"), dict):
    value = value["state_dict"]
  if not isinstance(value, dict):
    raise TorchFileError(
      f"{path}: holds {pickle_machine.kind(value)}, not a mapping of tensors;"
      " save the module's state_dict() instead"
    )
  tensors = {
    name: tensor
    for name, tensor in value.items()
    if isinstance(name, str) and isinstance(tensor, np.ndarray)
  }
  if not tensors:
    keys = ", ".join(str(key)[:40] for key in list(value)[:8])
    raise TorchFileError(f"{path}: no tensors among the keys {keys}")
  return tensors


@dataclasses.dataclass(frozen=True, eq=False)
class _Storage:
  """Flat memory of one element type; `raw` is None while only sizes count."""

  raw: memoryview | None
  dtype: np.dtype
  size: int


def _read_zip(data: memoryview) -> Contents:
  members = stored_zip.members(data)
  pickles = [n for n in members if n == "data.pkl" or n.endswith("/data.pkl")]
  if len(pickles) != 1:
    raise pickle_machine.PickleError(
      f"{len(pickles)} members are named data.pkl, a PyTorch file has one"
    )
  prefix = pickles[0].removesuffix("data.pkl")
  order = bytes(members.get(f"{prefix}byteorder", b"little")[:16])
  if order not in (b"little", b"big"):
    raise pickle_machine.PickleError(f"byte order {order!r}")
  storages: dict[tuple, _Storage] = {}

  def persistent(machine, identity):
    name, dtype, key, count = _identity(identity)
    if name == "module":
      return count
    if (key, dtype) not in storages:
      raw = members.get(f"{prefix}data/{key}")
      if raw is None:
        raise pickle_machine.PickleError(f"storage {key!r:.40} is missing")
      storages[key, dtype] = _storage(raw, dtype, count, order == b"big")
    return storages[key, dtype]

  machine = pickle_machine.Machine(_builders(len(data)), persistent)
  value, _ = machine.run(_pickle(members[pickles[0]]))
  return Contents(value, tuple(sorted(machine.stubs)))


def _read_stream(data: memoryview) -> Contents:
  """Reads the stream: five pickles, then the storages in the last's order."""
  plain = pickle_machine.Machine(_builders(0), _no_storage)
  head = _pickle(data)
  magic, at = plain.run(head)
  if magic != _STREAM_MAGIC or isinstance(magic, bool):
    raise pickle_machine.PickleError(
      "the stream does not begin with PyTorch's magic number"
    )
  protocol, at = plain.run(head, at)
  if protocol != _STREAM_PROTOCOL:
    raise pickle_machine.PickleError("the stream's protocol is not 1001")
  system, at = plain.run(head, at)
  big = isinstance(system, dict) and system.get("little_endian") is False
  start = at
  storages: dict[str, _Storage] = {}

  def declare(machine, identity):
    """Learns the sizes: the bytes come after the pickle that names them."""
    name, dtype, key, count = _identity(identity)
    if name == "module":
      return count
    storages.setdefault(key, _Storage(None, dtype, count))
    return storages[key]

  _, at = pickle_machine.Machine(_builders(len(data)), declare).run(head, start)
  keys, at = plain.run(head, at)
  if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys):
    raise pickle_machine.PickleError("the stream has no list of storages")
  if len(set(keys)) != len(keys) or set(keys) != set(storages):
    raise pickle_machine.PickleError(
      f"{len(keys)} storages are listed, {len(storages)} are used"
    )
  for key in keys:
    declared = storages[key]
    if at + 8 > len(data):
      raise pickle_machine.PickleError(f"storage {key!r:.40} is missing")
    (count,) = struct.unpack_from(">q" if big else "<q", data, at)
    end = at + 8 + declared.size * declared.dtype.itemsize
    if count != declared.size or end > len(data):
      raise pickle_machine.PickleError(
        f"storage {key!r:.40} has {count} elements, {declared.size} are"
        " declared, or the file is truncated"
      )
    raw = data[at + 8 : end]
    storages[key] = _storage(raw, declared.dtype, declared.size, big)
    at = end

  def persistent(machine, identity):
    name, dtype, key, count = _identity(identity)
    if name == "module":
      return count
    storage = storages[key]
    if storage.dtype.newbyteorder("=") != dtype or storage.size != count:
      raise pickle_machine.PickleError(f"storage {key!r:.40} is named twice")
    return storage

  machine = pickle_machine.Machine(_builders(len(data)), persistent)
  value, _ = machine.run(head, start)
  return Contents(value, tuple(sorted(machine.stubs)))


def _pickle(data: memoryview) -> memoryview:
  """Bounds what is run: in a stream the storages follow."""
  return data[:MAX_PICKLE]


def _no_storage(machine, identity):
  raise pickle_machine.PickleError("a storage where none belongs")


def _identity(identity: Any) -> tuple[str, Any, Any, Any]:
  """Takes a persistent id apart: kind, dtype, key and number of elements."""
  if isinstance(identity, tuple) and identity:
    if identity[0] == "module" and len(identity) >= 2:
      return "module", None, None, identity[1]
    if identity[0] == "storage" and len(identity) in (5, 6):
      _, storage, key, _, count = identity[:5]
      if len(identity) == 6 and identity[5] is not None:
        raise pickle_machine.PickleError("storages that are views are not read")
      if (
        isinstance(storage, pickle_machine.Global)
        and isinstance(key, str)
        and type(count) is int
        and count >= 0
      ):
        module, _, name = storage.name.rpartition(".")
        if module in ("torch", "torch.cuda", "torch.storage"):
          if name in _STORAGES:
            return "storage", np.dtype(_STORAGES[name]), key, count
          raise pickle_machine.PickleError(
            f"storage type {name} is not one of {', '.join(_STORAGES)}"
          )
  raise pickle_machine.PickleError("a persistent id that names no storage")


def _storage(raw, dtype, count, big) -> _Storage:
  if count * dtype.itemsize > len(raw):
    raise pickle_machine.PickleError(
      f"a storage of {count} {dtype} has only {len(raw)} bytes"
    )
  return _Storage(raw, dtype.newbyteorder(">") if big else dtype, count)


def _builders(file_size: int) -> dict[str, Any]:
  """Makes the allow-list for one file, with its own budget of memory."""
  budget = [8 * file_size + (64 << 20)]

  def tensor(machine, storage, offset, size, stride, *rest):
    return _tensor(machine, storage, offset, size, stride, budget, None)

  def typed_tensor(
    machine, storage, offset, size, stride, grad, hooks, dtype, *rest
  ):
    if not isinstance(dtype, pickle_machine.Global):
      raise pickle_machine.PickleError("a tensor's dtype is not a global")
    return _tensor(machine, storage, offset, size, stride, budget, dtype.name)

  return {
    "torch._utils._rebuild_tensor": tensor,
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_tensor_v3": typed_tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.Size": _size,
    "collections.OrderedDict": _ordered_dict,
  }


def _tensor(machine, storage, offset, size, stride, budget, dtype_name):
  if not isinstance(storage, _Storage):
    raise pickle_machine.PickleError(
      f"a tensor is built of {pickle_machine.kind(storage)}"
    )
  shape, steps = _integers(machine, size), _integers(machine, stride)
  if type(offset) is not int or offset < 0 or len(shape) != len(steps):
    raise pickle_machine.PickleError("a tensor's offset, size or stride")
  dtype, size = storage.dtype, storage.size
  if dtype_name is not None:
    if dtype_name not in _DTYPES:
      raise pickle_machine.PickleError(f"{dtype_name} is not a known dtype")
    # PyTorch gives such a storage in bytes, the tensor in elements.
    wide = np.dtype(_DTYPES[dtype_name])
    size = size * dtype.itemsize // wide.itemsize
    swapped = dtype.byteorder == ">"
    dtype = wide.newbyteorder(">") if swapped else wide
  count = math.prod(shape)
  last = offset + sum((n - 1) * s for n, s in zip(shape, steps))
  if count and last >= size:
    raise pickle_machine.PickleError(
      f"a tensor of shape {shape} reaches element {last} of {size}"
    )
  budget[0] -= count * dtype.itemsize
  if budget[0] < 0:
    raise pickle_machine.PickleError(
      "the tensors claim more than 8 times the file's size"
    )
  if storage.raw is None:
    return None
  if not count:
    return np.zeros(shape, dtype.newbyteorder("="))
  return _view(storage.raw, dtype, offset, shape, steps, last)


def _view(raw, dtype, offset, shape, steps, last) -> np.ndarray:
  """Returns the strided view, native where the file's byte order is ours."""
  as_bool = dtype == np.bool_
  dtype = np.dtype(np.uint8) if as_bool else dtype
  flat = np.frombuffer(
    raw, np.uint8, (last - offset + 1) * dtype.itemsize, offset * dtype.itemsize
  ).view(dtype.newbyteorder("="))
  array = np.lib.stride_tricks.as_strided(
    flat, shape, [step * dtype.itemsize for step in steps], writeable=False
  )
  if as_bool:
    array = np.asarray(array != 0)
  elif dtype.byteorder == ">":
    array = array.byteswap()
  array.flags.writeable = False
  return array


def _integers(machine, values) -> tuple[int, ...]:
  if not isinstance(values, tuple | list) or len(values) > 32:
    raise pickle_machine.PickleError("a size or stride is not a short tuple")
  if not all(type(v) is int and 0 <= v < 1 << 48 for v in values):
    raise pickle_machine.PickleError("a size or stride is not a count")
  machine.charge(len(values))
  return tuple(values)


def _first(machine, data, *rest):
  return data


def _from_type(machine, function, kind, args, state):
  if function is not None and isinstance(function, pickle_machine.Global):
    return machine.call(function, args)
  raise pickle_machine.PickleError("a tensor subclass without a builder")


def _size(machine, values=()):
  return _integers(machine, values)


def _ordered_dict(machine, pairs=()):
  """Builds the mapping; Python 2 passed its items as a list of lists."""
  if not isinstance(pairs, list | tuple):
    raise pickle_machine.PickleError("an OrderedDict of something odd")
  machine.charge(len(pairs))
  if not all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
    raise pickle_machine.PickleError("an OrderedDict's item is not a pair")
  result: dict = {}
  pickle_machine.put(result, pairs)
  return result
