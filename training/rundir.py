"""The directory of one run: its config, status, metrics, pictures and log.

config.json, env.json, status.json, metrics.jsonl, checkpoints/<step>/,
samples/<step>.png, eval/<step>/eval.json, log.txt. Only process 0 writes.
"""

import datetime
import io
import json
import logging
import math
import os
import pathlib
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from training import checkpoint_folder, lock

_LOG = logging.getLogger(__name__)
_MISSING = object()


class RunDirectoryError(ValueError):
  """The directory cannot be used for this run."""


class ConfigChangedError(RunDirectoryError):
  """A run was begun with another config; the message has the difference."""


class RunDirectory:
  """Reads and writes the files of a run; see `open`."""

  def __init__(self, path: str | os.PathLike, primary: bool = True):
    """Name a directory without touching it (see `open`).

    Args:
      path: the directory.
      primary: whether this process writes; the others' calls do nothing.
    """
    self.path = pathlib.Path(path).absolute()
    self.primary = primary
    self._lock: io.IOBase | None = None
    self._handler: logging.Handler | None = None
    self._last_step = -1

  @classmethod
  def open(
    cls,
    path: str | os.PathLike,
    config: Mapping[str, Any],
    *,
    environment: Mapping[str, Any] | None = None,
    may_change: Sequence[str] = (),
    primary: bool = True,
  ) -> "RunDirectory":
    """Create the directory of a run, or come back to it.

    Args:
      path: the directory.
      config: plain values; remembered.
      environment: goes to env.json.
      may_change: dotted fields that may differ from the first time
        ("train.num_steps"), also as the beginning of a name ("eval.").
      primary: see `__init__`.
    Raises:
      RunDirectoryError: another process uses it, it cannot be written, or it
        was begun with another config (with the difference).
    """
    run = cls(path, primary)
    if not primary:
      return run
    try:
      run.path.mkdir(parents=True, exist_ok=True)
      run._take_lock()
      run._check_config(config, may_change)
      if environment is not None:
        write_json(run.path / "env.json", environment)
      run._start_log()
    except OSError as error:
      run.close()
      raise _unwritable(run.path, error) from error
    except RunDirectoryError:
      run.close()
      raise
    return run

  @property
  def checkpoints(self) -> pathlib.Path:
    """The folder of the checkpoints."""
    return self.path / "checkpoints"

  @property
  def config(self) -> dict[str, Any]:
    """The config the run remembers.

    Raises:
      RunDirectoryError: there is no run here.
    """
    try:
      return json.loads((self.path / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
      raise RunDirectoryError(
        f"{self.path} is not the directory of a run: config.json cannot be "
        f"read ({error})"
      ) from error

  def append(self, step: int, values: Mapping[str, float | None]) -> None:
    """Append a line to metrics.jsonl; nan and infinity become null.

    Raises:
      ValueError: `step` is below that of the line before.
      RunDirectoryError: the line could not be written.
    """
    if not self.primary:
      return
    if step < self._last_step:
      raise ValueError(
        f"step {step} is below {self._last_step}, the last in metrics.jsonl: "
        "rewind first"
      )
    line = {"step": step} | {
      name: _number(value) for name, value in values.items()
    }
    path = self.path / "metrics.jsonl"
    try:
      with open(path, "ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")
    except OSError as error:
      raise _unwritable(path, error) from error
    self._last_step = step

  def metrics_size(self) -> int:
    """The length of metrics.jsonl in bytes; `rewind` takes it."""
    path = self.path / "metrics.jsonl"
    return path.stat().st_size if path.exists() else 0

  def rewind(self, step: int, size: int | None = None) -> None:
    """Repair metrics.jsonl and cut it back to a restored step.

    Args:
      step: lines of later steps go.
      size: of the file when `step` was saved; lines of `step` that came later
        go too. Not trusted if it does not end a line.
    Raises:
      RunDirectoryError: the file cannot be written.
    """
    if not self.primary:
      return
    path = self.path / "metrics.jsonl"
    data = path.read_bytes() if path.exists() else b""
    kept = b""
    if size is not None and size <= len(data) and data[:size][-1:] in b"\n":
      data = data[:size]
    self._last_step = -1
    for line in data.splitlines(keepends=True):
      at = _step_of(line)
      if at is not None and self._last_step <= at <= step:
        kept += line
        self._last_step = at
    try:
      if path.exists() and kept != path.read_bytes():
        _replace(path, kept)
    except OSError as error:
      raise _unwritable(path, error) from error

  def metrics(self) -> list[dict[str, Any]]:
    """Read the lines of metrics.jsonl; a torn last line is left out."""
    return list(read_metrics(self.path / "metrics.jsonl"))

  def write_status(self, **fields: Any) -> None:
    """Replace status.json: state, step, total, eta_s, last_checkpoint, ..."""
    if not self.primary:
      return
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    about = {"time": now, "pid": os.getpid(), "host": socket.gethostname()}
    try:
      write_json(self.path / "status.json", fields | about)
    except OSError as error:
      # Nothing depends on it; a full disk shows in the checkpoints.
      _LOG.warning("cannot write status.json: %s", error)

  def status(self) -> dict[str, Any]:
    """Read status.json; {} if there is none."""
    try:
      return json.loads((self.path / "status.json").read_text("utf-8"))
    except (OSError, ValueError):
      return {}

  def save_image(self, step: int, name: str, image: np.ndarray) -> None:
    """Save a picture, uint8 [h, w, 3] or [h, w], below samples/.

    The picture called "samples" becomes samples/<step>.png, another one
    samples/<step>-<name>.png.
    """
    if not self.primary:
      return
    suffix = "" if name == "samples" else "-" + name.replace("/", "-")
    path = self.path / "samples" / f"{step}{suffix}.png"
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(buffer, "PNG")
    try:
      path.parent.mkdir(exist_ok=True)
      _replace(path, buffer.getvalue())
    except OSError as error:
      raise _unwritable(path, error) from error

  def save_evaluation(
    self, step: int, name: str, scalars: Mapping[str, float]
  ) -> None:
    """Add an evaluator's scalars to eval/<step>/eval.json."""
    if not self.primary:
      return
    path = self.path / "eval" / str(step) / "eval.json"
    content = self.evaluation(step) | {
      name: {key: _number(value) for key, value in scalars.items()}
    }
    try:
      path.parent.mkdir(parents=True, exist_ok=True)
      write_json(path, {"step": step} | content)
    except OSError as error:
      raise _unwritable(path, error) from error

  def evaluation(self, step: int) -> dict[str, dict[str, float]]:
    """Read eval/<step>/eval.json: scalars by evaluator; {} without it."""
    path = self.path / "eval" / str(step) / "eval.json"
    try:
      content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
      return {}
    return {k: v for k, v in content.items() if isinstance(v, dict)}

  def best(self, scalar: str) -> int | None:
    """Find the checkpoint whose evaluation has the lowest `scalar`, if any."""
    found = {}
    for step in checkpoint_folder.steps(self.checkpoints):
      for values in self.evaluation(step).values():
        if scalar in values:
          found[step] = values[scalar]
    return min(found, key=found.get) if found else None

  def close(self) -> None:
    """Let go of the lock and the log."""
    if self._handler is not None:
      logging.getLogger().removeHandler(self._handler)
      self._handler.close()
      self._handler = None
    if self._lock is not None:
      self._lock.close()
      self._lock = None

  def _take_lock(self) -> None:
    try:
      self._lock = lock.take(self.path)
    except lock.Locked as error:
      raise RunDirectoryError(
        f"{error}: wait for it, stop it, or choose another directory"
        f" (status.json names it: {self.status()})"
      ) from error

  def _check_config(
    self, config: Mapping[str, Any], may_change: Sequence[str]
  ) -> None:
    path = self.path / "config.json"
    config = json.loads(json.dumps(config))
    if path.exists():
      lines = difference(self.config, config, ignore=may_change)
      if lines:
        raise ConfigChangedError(
          f"{self.path} was begun with another config:\n  "
          + "\n  ".join(lines)
          + "\nUse the config it was begun with, or another directory"
        )
      if self.config == config:
        return
    write_json(path, config)

  def _start_log(self) -> None:
    handler = logging.FileHandler(self.path / "log.txt", encoding="utf-8")
    form = "%(asctime)s %(levelname).1s %(name)s: %(message)s"
    handler.setFormatter(logging.Formatter(form))
    handler.setLevel(logging.INFO)
    # Orbax tells every step of every save.
    handler.addFilter(
      lambda record: record.levelno > logging.INFO or record.name != "absl"
    )
    logging.getLogger().addHandler(handler)
    logging.getLogger("training").setLevel(logging.INFO)
    self._handler = handler


def difference(
  old: Mapping[str, Any], new: Mapping[str, Any], ignore: Sequence[str] = ()
) -> list[str]:
  """Compare two nested dicts of plain values: one readable line a field.

  Args:
    old: before.
    new: after.
    ignore: dotted names, or their beginnings where they end with a dot.
  """
  before, after = dict(_leaves(old)), dict(_leaves(new))
  lines = []
  for name in sorted(before.keys() | after.keys()):
    if any(
      name == field or (field.endswith(".") and name.startswith(field))
      for field in ignore
    ):
      continue
    was, now = before.get(name, _MISSING), after.get(name, _MISSING)
    if was != now or type(was) is not type(now):
      lines.append(f"{name}: {_shown(was)} -> {_shown(now)}")
  return lines


def read_metrics(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
  """Read a metrics file line by line; a torn last line is left out."""
  path = pathlib.Path(path)
  if not path.exists():
    return
  with open(path, "rb") as file:
    for line in file:
      if _step_of(line) is not None:
        yield json.loads(line)


def write_json(path: pathlib.Path, content: Any) -> None:
  """Replace a JSON file in one step."""
  text = json.dumps(content, indent=2, allow_nan=False, default=str)
  _replace(path, text.encode() + b"\n")


def _replace(path: pathlib.Path, data: bytes) -> None:
  """Replace a file in one step: readers see the old or the new one."""
  temporary = path.with_name(f".{path.name}.tmp")
  with open(temporary, "wb") as file:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, path)


def _step_of(line: bytes) -> int | None:
  """The step of a whole metrics line; None if it is torn."""
  if not line.endswith(b"\n"):
    return None
  try:
    step = json.loads(line)["step"]
  except (ValueError, KeyError, TypeError):
    return None
  return step if isinstance(step, int) else None


def _number(value: float | None) -> float | None:
  """A JSON number; null for what is none."""
  if value is None or not math.isfinite(value):
    return None
  return float(value)


def _leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
  if isinstance(tree, Mapping) and tree:
    for key, value in tree.items():
      yield from _leaves(value, f"{name}.{key}" if name else str(key))
  else:
    yield name, list(tree) if isinstance(tree, tuple) else tree


def _shown(value: Any) -> str:
  return "(absent)" if value is _MISSING else json.dumps(value, default=str)


def _unwritable(path: pathlib.Path, error: OSError) -> RunDirectoryError:
  try:
    free = f"{shutil.disk_usage(path.parent).free / 2**20:,.0f} MiB free there"
  except OSError:
    free = "free space unknown"
  return RunDirectoryError(f"cannot write {path}: {error} ({free})")
