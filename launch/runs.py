"""Runs on the disk: what was measured, and how to come back to a trained task.

`measured.npz` lies beside the files that `training.rundir` describes.
"""

import dataclasses
import io
import os
import shlex
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from launch import errors, flags, tasks
from training import checkpoint, rundir, sharding
from training import task as task_lib

locked = flags.locked

MEASURED = "measured.npz"
# What may change between two starts of a run, because no step depends on it.
MAY_CHANGE = (
  "platform",
  "mesh.",
  "eval.",
  "sample.",
  "data.dir",
  "train.log_every",
  "train.checkpoint_every",
  "train.keep",
  "train.best",
  "train.on_nan",
)


@dataclasses.dataclass(frozen=True)
class Run:
  """A run directory and what can be made from it without its data.

  Attributes:
    workdir: the directory.
    config: locked, as it was trained.
    adapter: of `launch.tasks`.
    measured: host arrays.
    task: made from the two above.
  """

  workdir: Path
  config: ml_collections.ConfigDict
  adapter: tasks.Adapter
  measured: dict[str, np.ndarray]
  task: task_lib.Task

  def shapes(self) -> Any:
    """Returns the shapes of the state."""
    return jax.eval_shape(self.task.init, jax.random.key(0), self.measured)

  def restore(
    self, mesh: Mesh, average: bool = True, step: int | str | None = None
  ) -> checkpoint.Restored:
    """Restores a checkpoint for sampling and evaluation.

    Args:
      mesh: any.
      average: take the moving average of the parameters where it was kept.
      step: of the checkpoint; None takes the newest good one, flags.BEST that
        of the best evaluation.

    Raises:
      CommandError: the run does not say what is best, or has no evaluation.
    """
    if step == flags.BEST:
      step = self._best()
    return checkpoint.restore_sampling(
      rundir.RunDirectory(self.workdir).checkpoints,
      mesh,
      self.adapter.RULE,
      shapes=self.shapes(),
      average=average,
      step=step,
    )

  def _best(self) -> int:
    scalar = self.config.train.get("best", "")
    found = scalar and rundir.RunDirectory(self.workdir).best(scalar)
    if not found:
      raise errors.CommandError(
        f"{self.workdir} has no checkpoint of a best evaluation: train with "
        "--config.train.best=eval/bits_per_element, or give another --step"
      )
    return found


def open_run(workdir: Path) -> Run:
  """Opens the directory of a run.

  Raises:
    CommandError: it holds no run, or what it measured is gone.
  """
  config = load_config(workdir)
  adapter = tasks.get(config.task)
  measured = {}
  if tasks.offers(adapter, "measure"):
    measured = load_measured(workdir)
  return Run(
    workdir, config, adapter, measured, adapter.make_task(config, measured)
  )


def load_config(workdir: Path) -> ml_collections.ConfigDict:
  """Reads the config of a run, locked.

  Raises:
    CommandError: the directory holds no run.
  """
  if not (workdir / "config.json").is_file():
    quoted = shlex.quote(str(workdir))
    raise errors.CommandError(
      f"{workdir} holds no run: give the --workdir of a launch.train",
      f"python -m launch.train --config={_example()} --workdir={quoted}",
    )
  return flags.locked(rundir.RunDirectory(workdir).config)


def measure(
  workdir: Path, compute: Callable[[], Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
  """Returns what was measured for this run; the first time it is measured.

  Process 0 calls `compute` and writes the file, every process reads it: the
  directory has to be one that all hosts share.
  """
  path = workdir / MEASURED
  if jax.process_index() == 0 and not path.exists():
    buffer = io.BytesIO()
    np.savez(buffer, **compute())
    _replace(path, buffer.getvalue())
  sharding.meet("measured")
  return load_measured(workdir)


def load_measured(workdir: Path) -> dict[str, np.ndarray]:
  """Reads `measured.npz`.

  Raises:
    CommandError: it is absent or damaged.
  """
  path = workdir / MEASURED
  try:
    with np.load(path, allow_pickle=False) as archive:
      return {name: archive[name] for name in archive.files}
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    raise errors.CommandError(
      f"{path} cannot be read ({error}): restore it from a copy, or train in "
      "a new --workdir"
    ) from error


def _replace(path: Path, data: bytes) -> None:
  """Replaces a file in one step, on the disk before it has its name."""
  temporary = path.with_name(f".{path.name}.tmp")
  with open(temporary, "wb") as file:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, path)


def _example() -> str:
  names = flags.shipped()
  return f"{names[0]}:tiny" if names else "FILE.py"
