"""One process that trains the toy task and may be told to die at a point.

Run by the tests: `python -m tests.training.driver SPEC`, where SPEC is JSON:
workdir, steps, out (an .npz of the final state), kill (point and count),
and further fields below. The points are laid around the engine's functions
from here: the product has no hooks.
"""

import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback

import jax
import jax.numpy as jnp
import numpy as np

from tests.training import toy
from training import (
  checkpoint_folder,
  checkpoint_manifest,
  loop,
  options,
  reporting,
  rundir,
  sharding,
  trees,
)

POINTS = (
  "before save",
  "while saving",
  "before manifest",
  "half a manifest",
  "before rename",
  "after rename",
  "before expiry",
  "half an expiry",
  "before line",
  "half a line",
  "after line",
  "while replacing a file",
  "before evaluation",
  "after evaluation",
  "after cleaning",
  "after restoring",
  "before rewinding",
  "after step",
)


def die():
  """Leave without any goodbye."""
  os.kill(os.getpid(), signal.SIGKILL)


class Bomb:
  """Kills the process when a point is passed for the n-th time."""

  def __init__(self, point, count):
    self.point, self.left = point, count

  def passes(self, point):
    """Count a point; True if this is the one to die at."""
    if point != self.point:
      return False
    self.left -= 1
    return self.left == 0

  def at(self, point):
    """Die here if it is time."""
    if self.passes(point):
      die()


def lay(bomb):
  """Wrap the engine's functions with the points."""

  def wrap(owner, name, before=None, after=None, instead=None):
    function = getattr(owner, name)

    def wrapped(*args, **kwargs):
      if before:
        bomb.at(before)
      if instead:
        instead(function, *args, **kwargs)
      result = function(*args, **kwargs)
      if after:
        bomb.at(after)
      return result

    setattr(owner, name, wrapped)

  def half_a_manifest(function, folder, manifest):
    if bomb.passes("half a manifest"):
      (folder / checkpoint_manifest.NAME).write_text('{"format": 1, "step"')
      die()

  def half_an_expiry(function, path):
    if "expired" in path.name and bomb.passes("half an expiry"):
      (path / checkpoint_manifest.NAME).unlink()
      die()

  def half_a_line(function, self, step, values):
    if bomb.passes("half a line"):
      with open(self.path / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": %d, "train/lo' % step)
      die()

  def while_replacing(function, path, data):
    if bomb.passes("while replacing a file"):
      path.with_name(f".{path.name}.tmp").write_bytes(data[: len(data) // 2])
      die()

  def later(function, *args):
    if bomb.passes("while saving"):
      threading.Timer(random.random() * 0.03, die).start()

  folders = checkpoint_folder
  directory = rundir.RunDirectory
  wrap(folders, "start", before="before save", instead=later)
  wrap(checkpoint_manifest, "write", "before manifest", "before rename")
  wrap(checkpoint_manifest, "write", instead=half_a_manifest)
  wrap(folders, "commit", after="after rename")
  wrap(folders, "delete", before="before expiry", instead=half_an_expiry)
  wrap(directory, "append", "before line", "after line", half_a_line)
  wrap(rundir, "_replace", instead=while_replacing)
  wrap(reporting.Reporter, "evaluation", "before evaluation")
  wrap(directory, "save_evaluation", after="after evaluation")
  wrap(directory, "rewind", "before rewinding", "after restoring")
  wrap(loop._Engine, "advance", after="after step")
  wrap(loop.checkpoint.Checkpointer, "_clean", after="after cleaning")


@dataclasses.dataclass
class Result:
  """What the evaluator below returns."""

  scalars: dict
  images: dict


@dataclasses.dataclass
class Evaluator:
  """Measures the parameters, and may take its time."""

  name: str
  every: int
  seconds: float = 0.0

  def run(self, state, step):
    """Return a number and a picture."""
    deadline = time.monotonic() + self.seconds
    while time.monotonic() < deadline:
      time.sleep(0.01)
    value = float(_size(state.ema["out"]["kernel"]))
    image = np.full((4, 4, 3), step, np.uint8)
    return Result({f"eval/{self.name}": value}, {"samples": image})


@jax.jit
def _size(x):
  """A number that every process can read, wherever x lies."""
  return jnp.abs(x).sum()


def main(spec):
  """Train as the spec says."""
  if "process" in spec:
    jax.distributed.initialize(
      f"127.0.0.1:{spec['port']}",
      num_processes=spec["processes"],
      process_id=spec["process"],
      initialization_timeout=60,
      heartbeat_timeout_seconds=10,
    )
  if "kill" in spec:
    lay(Bomb(*spec["kill"]))
  if "kill_after" in spec:
    threading.Timer(spec["kill_after"], die).start()
  if "slow_commit" in spec:
    commit = checkpoint_folder.commit

    def slow(*args):
      time.sleep(spec["slow_commit"])
      commit(*args)

    checkpoint_folder.commit = slow
  mesh = sharding.make_mesh(spec.get("mesh"))
  directory = rundir.RunDirectory.open(
    spec["workdir"], {"toy": 1}, primary=jax.process_index() == 0
  )
  make_batches = toy.make_batches(mesh)

  def slow_batches(step):
    for batch in make_batches(step):
      time.sleep(spec.get("seconds_a_step", 0.0))
      yield batch

  finished = loop.run(
    toy.Toy(frozen=True, accumulate=2),
    slow_batches,
    options.Options(
      num_steps=spec["steps"],
      batch_size=8,
      log_every=2,
      checkpoint_every=spec.get("checkpoint_every", 5),
      keep=2,
      seed=3,
    ),
    directory,
    mesh,
    rule=sharding.FsdpRule(min_size=8),
    evaluators=[
      Evaluator("weight", 5, spec.get("seconds_an_evaluation", 0.0)),
      Evaluator("other", 10),
    ],
  )
  print("ended:", finished.reason, finished.step, flush=True)
  if "out" in spec and jax.process_index() == 0:
    named = trees.flatten(finished.state)
    np.savez(spec["out"], **{n: np.asarray(x) for n, x in named.items()})


def start(spec, devices=1, **popen):
  """Start a process for a spec."""
  env = dict(os.environ)
  env["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
  env["JAX_PLATFORMS"] = "cpu"
  root = pathlib.Path(__file__).resolve().parents[2]
  return subprocess.Popen(
    [sys.executable, "-m", "tests.training.driver", json.dumps(spec)],
    cwd=root,
    env=env,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    **popen,
  )


def run(spec, devices=1, timeout=120):
  """Run a process for a spec to its end: (exit status, output)."""
  process = start(spec, devices)
  try:
    output, _ = process.communicate(timeout=timeout)
  finally:
    process.kill()
  return process.returncode, output


def lines(workdir):
  """The lines of metrics, without what depends on the clock."""
  return [
    {k: v for k, v in line.items() if not k.startswith("perf/")}
    for line in rundir.read_metrics(pathlib.Path(workdir) / "metrics.jsonl")
  ]


def copy(source, target):
  """Copy a run directory."""
  shutil.copytree(source, target)
  return target


if __name__ == "__main__":
  spec = json.loads(sys.argv[1])
  try:
    main(spec)
  except Exception:
    traceback.print_exc()
    sys.stderr.flush()
    if "process" not in spec:
      raise
    # Not through JAX's farewell, which waits for the others.
    os._exit(1)
