"""Reads the constants of a frozen TensorFlow graph, without TensorFlow.

A `GraphDef` is a protocol buffer: nodes (field 1), each with a name (1), an
operation (2) and attributes (5), a map whose entry `value` holds a tensor (8)
of a type (1), a shape (2) and bytes (4) or a list of floats (5). Everything
else is skipped.
"""

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

_FLOAT = 1


class GraphFileError(ValueError):
  """A file that is not a sound frozen graph."""


def constants(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Returns the float32 constants of a graph by the names of their nodes.

  Raises:
    GraphFileError: The file is malformed or has none.
    OSError: The file cannot be opened.
  """
  with open(path, "rb") as file:
    data = memoryview(file.read())
  found = {}
  try:
    for field, node in _fields(data):
      if field == 1:
        name, tensor = _constant(node)
        if tensor is not None:
          found[name] = tensor
  except (IndexError, UnicodeDecodeError, TypeError, AttributeError) as error:
    raise GraphFileError(
      f"{path} is not a TensorFlow graph ({type(error).__name__})"
    ) from error
  except GraphFileError as error:
    raise GraphFileError(f"{path}: {error}") from error
  if not found:
    raise GraphFileError(f"{path} has no constants: is it a frozen graph?")
  return found


def _constant(node: memoryview) -> tuple[str, np.ndarray | None]:
  name, operation, tensor = "", "", None
  for field, value in _fields(node):
    if field == 1:
      name = bytes(value).decode()
    elif field == 2:
      operation = bytes(value).decode()
    elif field == 5:
      entry = dict(_fields(value))
      if bytes(entry.get(1, b"")) == b"value":
        tensor = dict(_fields(entry[2])).get(8)
  if operation != "Const" or tensor is None:
    return name, None
  return name, _tensor(name, tensor)


def _tensor(name: str, data: memoryview) -> np.ndarray | None:
  kind, shape, content, listed = 0, (), None, []
  for field, value in _fields(data):
    if field == 1:
      kind = value
    elif field == 2:
      shape = tuple(
        dict(_fields(dim)).get(1, 0) for f, dim in _fields(value) if f == 2
      )
    elif field == 4:
      content = bytes(value)
    elif field == 5:
      listed.append(bytes(value) if isinstance(value, memoryview) else value)
  if kind != _FLOAT:
    return None
  raw = content if content else b"".join(listed)
  count = math.prod(shape)
  if len(raw) == 4 and count > 1:
    raise GraphFileError(f"constant {name!r:.60} is stored as one repeated")
  if len(raw) != 4 * count:
    raise GraphFileError(
      f"constant {name!r:.60} of shape {shape} has {len(raw)} bytes"
    )
  return np.frombuffer(raw, "<f4").reshape(shape).astype(np.float32)


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
  """Yields the fields of a message: integers, or the bytes of the others."""
  at = 0
  while at < len(data):
    key, at = _varint(data, at)
    wire = key & 7
    if wire == 0:
      value, at = _varint(data, at)
      yield key >> 3, value
      continue
    if wire == 2:
      size, at = _varint(data, at)
    elif wire in (1, 5):
      size = 8 if wire == 1 else 4
    else:
      raise GraphFileError(f"wire type {wire} at byte {at}")
    if at + size > len(data):
      raise GraphFileError(f"a field of {size} bytes is truncated")
    yield key >> 3, data[at : at + size]
    at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
  value = shift = 0
  while True:
    byte = data[at]
    at += 1
    value |= (byte & 127) << shift
    if byte < 128:
      return value, at
    shift += 7
    if shift > 63:
      raise GraphFileError(f"a number at byte {at} is too long")
