"""Finds the uncompressed members of a zip file held in memory or mapped.

`torch.save` writes an ordinary zip whose members are all stored, never
compressed, so every member is a slice of the file. This reader accepts just
that (zip64 included), never copies, and bounds its work by the file size:
compressed, encrypted, repeated or overlapping members are errors, and so is a
member whose checksum is wrong.
"""

import struct
import zlib

_END = b"PK\x05\x06"
_END64 = b"PK\x06\x06"
_LOCATOR64 = b"PK\x06\x07"
_CENTRAL = b"PK\x01\x02"
_LOCAL = b"PK\x03\x04"
_MAX_COMMENT = 65535
_MAX_MEMBERS = 1 << 20


class ZipError(ValueError):
  """A zip file that is damaged or is not of the kind read here."""


def members(data: memoryview) -> dict[str, memoryview]:
  """Maps each member's name to its bytes, a slice of `data`.

  Args:
    data: The whole file, format "B".

  Raises:
    ZipError: The file is malformed, truncated or not made of stored members.
  """
  try:
    return _members(data)
  except (struct.error, IndexError, OverflowError) as error:
    raise ZipError(f"the zip file is truncated: {error}") from error


def _members(data: memoryview) -> dict[str, memoryview]:
  count, size, start = _directory(data)
  if count > _MAX_MEMBERS or count * 46 > size:
    raise ZipError(f"{count} members do not fit a directory of {size} bytes")
  found, spans, position = {}, [], start
  for _ in range(count):
    if bytes(data[position : position + 4]) != _CENTRAL:
      raise ZipError(f"no directory entry at byte {position}")
    (flags, method, _, _, crc, packed, full, name_length, extra_length) = (
      struct.unpack_from("<HHHHIIIHH", data, position + 8)
    )
    comment_length, _, _, _, local = struct.unpack_from(
      "<HHHII", data, position + 32
    )
    position += 46
    name = _name(data[position : position + name_length])
    position += name_length
    extra = data[position : position + extra_length]
    position += extra_length + comment_length
    if position > start + size:
      raise ZipError(f"entry {name!r} leaves the directory")
    full, packed, local = _widen(extra, full, packed, local)
    if method != 0 or full != packed:
      raise ZipError(f"member {name!r} is compressed (method {method})")
    if flags & 1:
      raise ZipError(f"member {name!r} is encrypted")
    if name in found:
      raise ZipError(f"member {name!r} occurs twice")
    if local + 30 > len(data) or bytes(data[local : local + 4]) != _LOCAL:
      raise ZipError(f"member {name!r} has no header at byte {local}")
    begin = local + 30 + sum(struct.unpack_from("<HH", data, local + 26))
    if begin + full > len(data):
      raise ZipError(
        f"member {name!r} needs bytes {begin} to {begin + full}"
        f" of a file of {len(data)}: it is truncated"
      )
    spans.append((local, begin + full, name, crc))
    found[name] = data[begin : begin + full]
  _check(spans, found)
  return found


def _directory(data: memoryview) -> tuple[int, int, int]:
  """Returns count, size and offset of the central directory."""
  tail = max(0, len(data) - _MAX_COMMENT - 22)
  end = bytes(data[tail:]).rfind(_END)
  if end < 0:
    raise ZipError("the zip file has no end record: it is truncated")
  end += tail
  disk, _, _, count, size, start, comment = struct.unpack_from(
    "<HHHHIIH", data, end + 4
  )
  if end + 22 + comment != len(data):
    raise ZipError("the zip file does not end with its end record")
  if 0xFFFF in (disk, count) or 0xFFFFFFFF in (size, start):
    if end < 20 or bytes(data[end - 20 : end - 16]) != _LOCATOR64:
      raise ZipError("the zip64 locator is missing")
    (wide,) = struct.unpack_from("<Q", data, end - 12)
    if wide + 56 > len(data) or bytes(data[wide : wide + 4]) != _END64:
      raise ZipError(f"no zip64 end record at byte {wide}")
    disk, _, _, count, size, start = struct.unpack_from(
      "<IIQQQQ", data, wide + 16
    )
  if disk != 0:
    raise ZipError("the zip file is spread over several disks")
  if start + size > end:
    raise ZipError(f"the directory at {start} + {size} overlaps the end record")
  return count, size, start


def _widen(extra, full, packed, local):
  """Replaces the fields that a zip64 extra field holds in full."""
  position = 0
  while position + 4 <= len(extra):
    tag, length = struct.unpack_from("<HH", extra, position)
    position += 4
    if tag == 1:
      field = extra[position : position + length]
      offset = 0
      values = []
      for value in (full, packed, local):
        if value == 0xFFFFFFFF:
          (value,) = struct.unpack_from("<Q", field, offset)
          offset += 8
        values.append(value)
      return tuple(values)
    position += length
  return full, packed, local


def _name(raw: memoryview) -> str:
  try:
    return bytes(raw).decode("utf-8")
  except UnicodeDecodeError as error:
    raise ZipError(f"member name {bytes(raw)!r:.80} is not UTF-8") from error


def _check(spans, found):
  """Checks that no members overlap, then every checksum."""
  previous = 0
  for begin, end, name, _ in sorted(spans):
    if begin < previous:
      raise ZipError(f"member {name!r} overlaps another")
    previous = end
  for _, _, name, crc in spans:
    if zlib.crc32(found[name]) != crc:
      raise ZipError(
        f"member {name!r} has a wrong checksum: the file is damaged,"
        " fetch or copy it again"
      )
