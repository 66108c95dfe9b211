"""A run that stops at a given step and goes on is the one that did not."""

import jax
import numpy as np
import pytest

from tests.training import driver, toy
from training import checkpoint, loop, options, rundir, sharding, trees


def _train(path, mesh, **fields):
  directory = rundir.RunDirectory.open(path, {"toy": 1})
  try:
    return loop.run(
      toy.Toy(),
      toy.make_batches(mesh),
      options.Options(
        num_steps=12, batch_size=8, log_every=4, checkpoint_every=5, **fields
      ),
      directory,
      mesh,
      evaluators=[_Count(every=3)],
    )
  finally:
    directory.close()


class _Count:
  name = "count"

  def __init__(self, every):
    self.every, self.scalars, self.images = every, {"eval/count": 1.0}, {}

  def run(self, state, step):
    return self


def test_a_paused_run_ends_as_a_whole_one(tmp_path):
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  whole = _train(tmp_path / "whole", mesh)
  # Step 7 lies between two lines of metrics and two checkpoints.
  paused = _train(tmp_path / "parts", mesh, stop_at=7)
  assert (paused.reason, paused.step) == ("paused", 7)
  folder = tmp_path / "parts" / "checkpoints"
  assert checkpoint.steps(folder) == [5, 7]
  status = rundir.RunDirectory(tmp_path / "parts").status()
  assert (status["total"], status["exit_reason"]) == (12, "paused")
  again = _train(tmp_path / "parts", mesh, stop_at=7)
  assert (again.reason, again.step) == ("paused", 7)
  parts = _train(tmp_path / "parts", mesh, stop_at=99)
  assert (parts.reason, parts.step) == ("completed", 12)
  first, second = (trees.flatten(x.state) for x in (whole, parts))
  for name, value in first.items():
    np.testing.assert_array_equal(second[name], value, err_msg=name)
  lines = [
    [
      {k: v for k, v in line.items() if not k.startswith("perf/")}
      for line in driver.lines(tmp_path / name)
    ]
    for name in ("whole", "parts")
  ]
  assert lines[0] == lines[1]


def test_a_negative_step_is_refused():
  with pytest.raises(ValueError, match="stop_at -1 must not be negative"):
    options.Options(num_steps=1, batch_size=1, stop_at=-1)
