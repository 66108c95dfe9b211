"""The manifest of a checkpoint: what belongs to it, written last.

`manifest.json` lists every file with its length and BLAKE2 digest, every array
with shape, dtype and a checksum of its content, and carries a digest of itself.
A folder whose manifest is absent or does not match is never loaded.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

NAME = "manifest.json"
FORMAT = 1


def build(folder: pathlib.Path, content: Mapping[str, Any]) -> dict[str, Any]:
  """Describe a finished folder: hash its files and flush them to the disk.

  Args:
    folder: holds the files.
    content: JSON values to carry: step, arrays, frozen, info.
  """
  files = {}
  for path in _files(folder):
    with open(path, "rb") as file:
      digest = _digest(file)
      # Data first, manifest and name later, also across a power failure.
      os.fsync(file.fileno())
    name = path.relative_to(folder).as_posix()
    files[name] = {"bytes": path.stat().st_size, "blake2": digest}
  return {"format": FORMAT, **content, "files": files}


def write(folder: pathlib.Path, manifest: Mapping[str, Any]) -> None:
  """Write `manifest.json` into the folder, with a digest of itself."""
  sealed = {**manifest, "self": _seal(manifest)}
  with open(folder / NAME, "w", encoding="utf-8") as file:
    json.dump(sealed, file, indent=1, sort_keys=True)
    file.flush()
    os.fsync(file.fileno())
  sync_folder(folder)


def read(folder: pathlib.Path) -> dict[str, Any]:
  """Read a manifest and check its own digest.

  Raises:
    ValueError: absent, unreadable, or not what was written.
  """
  try:
    with open(folder / NAME, encoding="utf-8") as file:
      manifest = json.load(file)
  except FileNotFoundError as error:
    raise ValueError(f"{NAME} is missing") from error
  except (OSError, ValueError, RecursionError) as error:
    raise ValueError(f"{NAME} cannot be read ({error})") from error
  if not isinstance(manifest, dict):
    raise ValueError(f"{NAME} is not a JSON object")
  if manifest.pop("self", None) != _seal(manifest):
    raise ValueError(f"{NAME} does not match its own digest")
  if manifest.get("format") != FORMAT:
    raise ValueError(
      f"{NAME} has format {manifest.get('format')}, this version reads {FORMAT}"
    )
  return manifest


def damage(
  folder: pathlib.Path, manifest: Mapping[str, Any], quick: bool = False
) -> list[str]:
  """Compare the files with the manifest: readable lines, empty if all is well.

  `quick` compares lengths only.
  """
  problems = []
  for name, expected in manifest["files"].items():
    path = folder / name
    try:
      size = path.stat().st_size
      if size != expected["bytes"]:
        problems.append(f"{name} has {size} bytes, not {expected['bytes']}")
        continue
      if quick:
        continue
      with open(path, "rb") as file:
        if _digest(file) != expected["blake2"]:
          problems.append(f"{name} has other bytes than were written")
    except FileNotFoundError:
      problems.append(f"{name} is missing")
    except OSError as error:
      problems.append(f"{name} cannot be read ({error})")
  return problems


def sync_folder(folder: pathlib.Path) -> None:
  """Flush a folder's entries to the disk, where the system can."""
  try:
    descriptor = os.open(folder, os.O_RDONLY)
  except OSError:
    return
  try:
    os.fsync(descriptor)
  except OSError:
    pass
  finally:
    os.close(descriptor)


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(
    path for path in folder.rglob("*") if path.is_file() and path.name != NAME
  )


def _digest(file: Any) -> str:
  return hashlib.file_digest(
    file, lambda: hashlib.blake2b(digest_size=16)
  ).hexdigest()


def _seal(manifest: Mapping[str, Any]) -> str:
  text = json.dumps(manifest, sort_keys=True)
  return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
