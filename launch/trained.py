"""Trained weights as two small files, NAME.safetensors and NAME.json.

The first holds parameters, frozen arrays and what was measured, the second the
config. Those that ship lie in weights/trained: `launch.sample --weights=NAME`
samples from them offline.
"""

import dataclasses
import json
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from launch import errors, flags, runs, tasks
from training import checkpoint, rundir, sharding, trees
from training import state as state_lib
from training import task as task_lib
from weights import safetensors


def add_options(parser: flags.Parser, run: str) -> None:
  """Adds --workdir, of which `run` says what it is, and --weights instead."""
  parser.add_argument("--workdir", type=Path, help=run)
  parser.add_argument(
    "--weights",
    help="exported weights instead: a path, or what ships: "
    + ", ".join(shipped()),
  )


@dataclasses.dataclass(frozen=True)
class Trained:
  """Exported weights, usable where a `runs.Run` is sampled from.

  Attributes:
    workdir: the files' common path, without an ending.
    config: locked, as it was trained.
    adapter: of `launch.tasks`.
    measured: host arrays.
    task: made from the two above.
    arrays: parameters and frozen arrays by name.
    step: of the checkpoint that was exported.
  """

  workdir: Path
  config: ml_collections.ConfigDict
  adapter: tasks.Adapter
  measured: dict[str, np.ndarray]
  task: task_lib.Task
  arrays: dict[str, np.ndarray]
  step: int

  def restore(
    self, mesh: Mesh, average: bool = True, step: int | str | None = None
  ) -> checkpoint.Restored:
    """Puts the state on a mesh, replicated; it can be sampled from only.

    Args:
      mesh: any.
      average: must be True: only what a run samples with was exported.
      step: None, or that of the export.
    """
    if step not in (None, self.step):
      raise errors.CommandError(
        f"{self.workdir} holds step {self.step} only: leave out --step"
      )
    if not average:
      raise errors.CommandError(
        f"{self.workdir} holds one set of parameters: leave out --no_average"
      )
    shapes = jax.eval_shape(self.task.init, jax.random.key(0), self.measured)
    put = lambda tree: jax.device_put(tree, sharding.replicated(mesh))
    tree = lambda name, like: put(
      trees.unflatten(trees.select(self.arrays, name), like)
    )
    state = state_lib.State(
      step=put(np.int32(self.step)),
      params=tree("params", shapes.params),
      ema=None,
      opt_state={},
      model_state={},
      frozen=tree("frozen", shapes.frozen),
    )
    return checkpoint.Restored(state, self.step, {})


def export(run: runs.Run, path: Path) -> tuple[Path, Path]:
  """Writes what a run samples with; returns the two files.

  Args:
    run: opened.
    path: without an ending.

  Raises:
    CommandError: the task has state beside parameters, which a sampler needs.
  """
  mesh = sharding.make_mesh({"data": 1}, jax.devices()[:1])
  restored = run.restore(mesh)
  config, measured, state = run.config, run.measured, restored.state
  if tasks.offers(run.adapter, "exported"):
    config, measured, state = run.adapter.exported(config, measured, state)
  if jax.tree.leaves(state.model_state):
    raise errors.CommandError(
      f"task {config.task} keeps state beside its parameters: copy the run"
      " directory instead"
    )
  frozen = trees.flatten(state.frozen)
  # What was measured and is frozen is written once; `read` puts it back.
  measured = {name: x for name, x in measured.items() if name not in frozen}
  named = trees.flatten(
    {
      "params": state.sampling_params,
      "frozen": state.frozen,
      "measured": measured,
    }
  )
  weights = path.with_name(f"{path.name}.safetensors")
  description = _described(path)
  safetensors.save(weights, jax.device_get(named))
  rundir.write_json(
    description,
    {"config": config.to_dict(), "step": int(restored.step)},
  )
  return weights, description


def open_trained(name: str) -> Trained:
  """Opens exported weights: the name of shipped ones, or a path.

  Raises:
    CommandError: there are none, or they are damaged.
  """
  config, named, step = read(name)
  adapter = tasks.get(config.task)
  measured: dict[str, Any] = {
    **trees.select(named, "frozen"),
    **trees.select(named, "measured"),
  }
  return Trained(
    _find(name),
    config,
    adapter,
    measured,
    adapter.make_task(config, measured),
    named,
    step,
  )


def read(
  name: str,
) -> tuple[ml_collections.ConfigDict, dict[str, np.ndarray], int]:
  """Returns the config, the arrays by name and the step of exported weights.

  Raises:
    CommandError: there are none, or they are damaged.
  """
  path = _find(name)
  try:
    config, step = _description(path)
    named, _ = safetensors.load(path.with_name(f"{path.name}.safetensors"))
  except (OSError, ValueError) as error:
    raise errors.CommandError(
      f"{path} cannot be read ({error}): export it again"
    ) from error
  return config, named, step


def read_config(name: str) -> ml_collections.ConfigDict | None:
  """Returns the config of exported weights alone; None if there are none."""
  try:
    return _description(_find(name))[0]
  except (OSError, ValueError):
    return None


def shipped() -> list[str]:
  """Returns the names of the weights that ship."""
  folder = resources.files("weights").joinpath("trained")
  if not folder.is_dir():
    return []
  names = [entry.name for entry in folder.iterdir()]
  return sorted(x.removesuffix(".json") for x in names if x.endswith(".json"))


def _description(path: Path) -> tuple[ml_collections.ConfigDict, int]:
  """Reads the config and the step beside exported arrays.

  Raises:
    ValueError: one of them is missing or of the wrong kind.
    OSError: there is no such file.
  """
  found = json.loads(_described(path).read_text("utf-8"))
  if not isinstance(found, dict):
    raise ValueError("its .json holds no object")
  missing = [name for name in ("config", "step") if name not in found]
  if missing:
    raise ValueError(f"its .json lacks {' and '.join(missing)}")
  if not isinstance(found["step"], int):
    raise ValueError(f"step {found['step']!r} must be a whole number")
  return runs.locked(found["config"]), found["step"]


def _described(path: Path) -> Path:
  return path.with_name(f"{path.name}.json")


def _find(name: str) -> Path:
  path = Path(name.removesuffix(".safetensors").removesuffix(".json"))
  own = _described(path).is_file()
  if name not in shipped():
    if own:
      return path
  elif own:
    raise errors.CommandError(
      f"--weights={name} is what ships, and {_described(path)} is here too",
      f"--weights=./{name} for that one; rename it to have the other",
    )
  else:
    return Path(str(resources.files("weights").joinpath("trained", name)))
  raise errors.CommandError(
    f"no trained weights {name!r}{flags.did_you_mean(name, shipped())}"
  )
