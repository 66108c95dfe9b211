"""Rendering in parallel processes: NumPy and Pillow, nothing else.

A worker is its own program (`python -m data.scenes.worker`), so that it neither
imports the caller's main module again, as `spawn` would, nor inherits the
threads of TensorFlow, as `fork` would. It writes pickles to its standard
output, and reads nothing.
"""

import io
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from data import machine
from data.scenes import render, scene


def examples(
  seed: int, side: int, start: int, count: int, workers: int | None = None
) -> Iterator[dict[str, Any]]:
  """Yield the scenes start..start+count in order, rendered in parallel.

  Each is a dict: `index`, `label`, `image`, `segmentation`, `depth` (PNG
  bytes), `boxes` (float32 [m, 4]) and `box_labels` (int32 [m]). Raises
  RuntimeError with a worker's message where one fails.
  """
  workers = min(workers or machine.num_cores(), max(count // 16, 1))
  if workers == 1:
    for index in range(start, start + count):
      yield example(seed, side, index)
    return
  running = [
    _start(seed, side, start + i, start + count, workers)
    for i in range(workers)
  ]
  try:
    for i in range(count):
      yield _next(*running[i % workers])
  finally:
    for process, errors in running:
      process.kill()
      process.stdout.close()
      process.wait()
      errors.close()


def example(seed: int, side: int, index: int) -> dict[str, Any]:
  """Render one scene; see `examples`."""
  picture = render.render(scene.draw(seed, index), side)
  return {
    "index": index,
    "label": picture.label,
    "image": _png(picture.image),
    "segmentation": _png(picture.segmentation),
    "depth": _png(picture.depth),
    "boxes": picture.boxes,
    "box_labels": picture.box_labels,
  }


def _png(image: np.ndarray) -> bytes:
  file = io.BytesIO()
  Image.fromarray(image).save(file, "PNG", compress_level=4)
  return file.getvalue()


def _start(*arguments: int):
  """Start a worker; returns it and the file with its messages."""
  root = str(pathlib.Path(__file__).parents[2])
  path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
  # One thread each: the work is divided among processes.
  threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
  errors = tempfile.TemporaryFile()  # noqa: SIM115 (outlives this call)
  process = subprocess.Popen(
    [sys.executable, "-m", "data.scenes.worker", *map(str, arguments)],
    stdout=subprocess.PIPE,
    stderr=errors,
    stdin=subprocess.DEVNULL,
    env={**os.environ, **threads, "PYTHONPATH": path},
  )
  return process, errors


def _next(process, errors):
  try:
    return pickle.load(process.stdout)
  except (EOFError, pickle.UnpicklingError):
    code = process.wait()
    errors.seek(0)
    message = errors.read().decode(errors="replace").strip()
    raise RuntimeError(
      f"rendering scenes failed with exit code {code}: {message}"
    ) from None


def _main():
  seed, side, start, stop, stride = map(int, sys.argv[1:])
  for index in range(start, stop, stride):
    pickle.dump(example(seed, side, index), sys.stdout.buffer)
  sys.stdout.buffer.flush()


if __name__ == "__main__":
  _main()
