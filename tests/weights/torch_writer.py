"""Writes small PyTorch files, opcode by opcode, for the tests of the reader.

Follows what `torch.save` does in both formats, so that tests need no PyTorch
and can also write what it never would.
"""

import struct
import zipfile
import zlib

import numpy as np

STORAGES = {
  "float32": "FloatStorage",
  "float64": "DoubleStorage",
  "float16": "HalfStorage",
  "bfloat16": "BFloat16Storage",
  "int64": "LongStorage",
  "int32": "IntStorage",
  "int16": "ShortStorage",
  "int8": "CharStorage",
  "uint8": "ByteStorage",
  "bool": "BoolStorage",
  "complex64": "ComplexFloatStorage",
}


class Raw:
  """Opcodes that are put into the pickle as they are."""

  def __init__(self, opcodes: bytes):
    self.opcodes = opcodes


class Tensor:
  """A view of a storage: flat array, offset, shape and strides in elements."""

  def __init__(self, storage, offset, shape, strides):
    self.storage, self.offset = storage, offset
    self.shape, self.strides = tuple(shape), tuple(strides)


def tensor(array: np.ndarray) -> Tensor:
  """Wraps a contiguous array."""
  array = np.asarray(array)
  strides = [s // array.itemsize for s in np.ascontiguousarray(array).strides]
  return Tensor(array.reshape(-1), 0, array.shape, strides[: array.ndim])


class _Pickler:
  def __init__(self, legacy: bool):
    self.legacy = legacy
    self.storages: list[np.ndarray] = []

  def key(self, storage: np.ndarray) -> str:
    for i, known in enumerate(self.storages):
      if known is storage:
        return str(i)
    self.storages.append(storage)
    return str(len(self.storages) - 1)

  def put(self, value) -> bytes:
    if isinstance(value, Raw):
      return value.opcodes
    if isinstance(value, Tensor):
      return self._tensor(value)
    if isinstance(value, dict):
      items = b"".join(self.put(k) + self.put(v) for k, v in value.items())
      return b"}(" + items + b"u"
    if isinstance(value, list):
      return b"](" + b"".join(map(self.put, value)) + b"e"
    if isinstance(value, tuple):
      return b"(" + b"".join(map(self.put, value)) + b"t"
    if value is None:
      return b"N"
    if isinstance(value, bool):
      return b"\x88" if value else b"\x89"
    if isinstance(value, int):
      raw = value.to_bytes(10, "little", signed=True)
      return b"\x8a\x0a" + raw
    if isinstance(value, float):
      return b"G" + struct.pack(">d", value)
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw

  def _tensor(self, value: Tensor) -> bytes:
    kind = STORAGES[value.storage.dtype.name]
    identity = ("storage", Raw(f"ctorch\n{kind}\n".encode()))
    identity += (self.key(value.storage), "cpu", len(value.storage))
    identity += (None,) if self.legacy else ()
    args = self.put(identity) + b"Q"
    rest = (value.offset, value.shape, value.strides, False)
    args += b"".join(map(self.put, rest)) + b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + args + b"tR"


def zip_bytes(value, *, name="archive", byteorder="little", big=False) -> bytes:
  """Returns the zip format: aligned, stored members and a directory."""
  pickler = _Pickler(legacy=False)
  members = {"data.pkl": b"\x80\x02" + pickler.put(value) + b"."}
  members["byteorder"] = byteorder.encode()
  for i, storage in enumerate(pickler.storages):
    raw = storage.byteswap() if big else storage
    members[f"data/{i}"] = raw.tobytes()
  members["version"] = b"3\n"
  return stored_zip({f"{name}/{k}": v for k, v in members.items()})


def stored_zip(members: dict[str, bytes]) -> bytes:
  """Returns a zip of stored members, as PyTorch's writer lays it out."""
  body, directory = b"", b""
  for name, data in members.items():
    raw, crc, local = name.encode(), zlib.crc32(data), len(body)
    head = struct.pack("<HHHHHIII", 0, 2048, 0, 0, 0, crc, len(data), len(data))
    pad = -(local + 30 + len(raw) + 4) % 64
    extra = struct.pack("<HH", 0x4246, pad) + b"Z" * pad
    body += b"PK\x03\x04" + head + struct.pack("<HH", len(raw), len(extra))
    body += raw + extra + data
    directory += b"PK\x01\x02" + struct.pack("<H", 0) + head
    directory += struct.pack("<HHHHHII", len(raw), 0, 0, 0, 0, 0, local) + raw
  count = len(members)
  end = struct.pack(
    "<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0
  )
  return body + directory + b"PK\x05\x06" + end


def compressed_zip(path, members: dict[str, bytes]) -> None:
  """Writes the members deflated, which PyTorch never does."""
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
    for name, data in members.items():
      file.writestr(name, data)


def stream_bytes(value) -> bytes:
  """Returns the older format: five pickles, then the storages."""
  pickler = _Pickler(legacy=True)

  def pickle(value):
    return b"\x80\x02" + pickler.put(value) + b"."

  system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
  head = pickle(0x1950A86A20F9469CFC6C) + pickle(1001) + pickle(system)
  body = pickle(value)
  keys = [str(i) for i in range(len(pickler.storages))]
  data = b"".join(
    struct.pack("<q", s.size) + s.tobytes() for s in pickler.storages
  )
  return head + body + pickle(keys) + data
