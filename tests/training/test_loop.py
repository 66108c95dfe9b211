"""The loop in one process: resume, NaN policies, evaluators, seconds."""

import dataclasses
import functools
import itertools
import json
import logging
import os
import signal
import time

import jax
import numpy as np
import pytest

from tests.training import driver, toy
from training import checkpoint, loop, options, rundir, sharding, trees


@pytest.fixture(scope="module")
def mesh():
  """One device, which compiles fastest."""
  return sharding.make_mesh(devices=jax.devices()[:1])


def train(path, mesh, steps=12, *, batches=None, **kwargs):
  """Run the toy task in a directory."""
  fields = {f.name for f in dataclasses.fields(options.Options)}
  chosen = {k: kwargs.pop(k) for k in list(kwargs) if k in fields}
  chosen = {"log_every": 2, "checkpoint_every": 4, "keep": 2} | chosen
  directory = rundir.RunDirectory.open(path, {"toy": 1})
  try:
    return loop.run(
      kwargs.pop("task", toy.Toy()),
      batches or toy.make_batches(mesh),
      options.Options(num_steps=steps, batch_size=8, **chosen),
      directory,
      mesh,
      **kwargs,
    )
  finally:
    directory.close()


def bytes_of(state):
  """A state as bytes by name."""
  named = trees.flatten(state)
  return {name: np.asarray(x).tobytes() for name, x in named.items()}


def with_change(mesh, change):
  """Batches of the toy, changed on the host: change(step, batch)."""

  def batches(start):
    for step in itertools.count(start):
      batch = toy.host_batch(step)
      change(step + 1, batch)
      yield sharding.place_batch(batch, mesh)

  return batches


def nan_at(*steps):
  """Put nan into the batches of these steps."""

  def change(step, batch):
    if step in steps:
      batch["x"] = batch["x"] * np.nan

  return change


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, mesh):
  # Step 7 lies between two lines of metrics and two checkpoints.
  whole = train(tmp_path / "whole", mesh, 12, log_every=4)
  train(tmp_path / "parts", mesh, 7, log_every=4, checkpoint_every=5)
  # What the end of the shorter run added is not of the longer one.
  last = tmp_path / "parts" / "checkpoints"
  os.rename(last / "7", last / "7.aside-1")
  parts = train(tmp_path / "parts", mesh, 12, log_every=4, checkpoint_every=5)
  assert bytes_of(whole.state) == bytes_of(parts.state)
  lines = driver.lines(tmp_path / "whole")
  assert lines == driver.lines(tmp_path / "parts")
  assert [line["step"] for line in lines] == [4, 8, 12]


def test_loss_falls_and_the_directory_is_complete(tmp_path, mesh):
  evaluators = [driver.Evaluator("weight", 8)]
  finished = train(tmp_path, mesh, 40, evaluators=evaluators)
  lines = driver.lines(tmp_path)
  losses = [line["train/loss"] for line in lines if "train/loss" in line]
  assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:2])
  assert finished.reason == "completed"
  assert (tmp_path / "samples" / "8.png").exists()
  known = json.loads((tmp_path / "eval" / "40" / "eval.json").read_text())
  assert known["weight"]["eval/weight"] > 0
  status = json.loads((tmp_path / "status.json").read_text())
  assert status["state"] == "completed" and status["last_checkpoint"] == 40
  assert "parameters" in (tmp_path / "log.txt").read_text()


def test_an_unknown_policy_lists_the_choices():
  with pytest.raises(ValueError, match="stop, skip, rollback"):
    options.Options(num_steps=1, batch_size=8, on_nan="pray")


def test_batches_that_end_are_an_error(tmp_path, mesh):
  batches = lambda step: itertools.islice(toy.make_batches(mesh)(step), 3)
  with pytest.raises(ValueError, match="ended at step 3"):
    train(tmp_path, mesh, batches=batches)
  assert rundir.RunDirectory(tmp_path).status()["state"] == "failed"


# P8.


def test_nan_stops_with_the_step_named_and_no_bad_checkpoint(tmp_path, mesh):
  batches = with_change(mesh, nan_at(8))
  with pytest.raises(loop.NonFiniteError, match=r"train/loss.*step 8"):
    train(tmp_path, mesh, batches=batches)
  # Step 8 is a step of a checkpoint.
  assert checkpoint.steps(tmp_path / "checkpoints") == [4]
  assert [x["step"] for x in driver.lines(tmp_path)] == [2, 4, 6]


def test_nan_is_skipped_on_request(tmp_path, mesh, caplog):
  batches = with_change(mesh, nan_at(5, 8))
  with caplog.at_level(logging.WARNING):
    finished = train(tmp_path, mesh, batches=batches, on_nan="skip")
  assert "step 5 was not finite" in caplog.text
  assert int(finished.state.step) == 12
  # Adam counted ten updates.
  assert int(finished.state.opt_state[1].count) == 10
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(finished.state))
  skipped = [line["train/skipped"] for line in driver.lines(tmp_path)]
  assert skipped == [0, 0, 0.5, 0.5, 0, 0]


def test_skipping_every_step_stops_in_the_end(tmp_path, mesh, monkeypatch):
  monkeypatch.setattr(loop, "MAX_SKIPS", 4)
  batches = with_change(mesh, nan_at(*range(5, 100)))
  with pytest.raises(loop.NonFiniteError, match="4 steps in a row"):
    train(tmp_path, mesh, 60, batches=batches, on_nan="skip")


def test_nan_rolls_back_on_request(tmp_path, mesh):
  batches = with_change(mesh, nan_at(7))
  finished = train(
    tmp_path, mesh, batches=batches, on_nan="rollback", log_every=1
  )
  assert int(finished.state.step) == 12
  assert int(finished.state.opt_state[1].count) == 11
  steps = [x["step"] for x in driver.lines(tmp_path)]
  assert steps == list(range(1, 13))
  assert finished.seconds["lost"] > 0
  # Like skipping, up to the policy's own metric.
  skipped = train(
    tmp_path / "skip", mesh, batches=batches, on_nan="skip", log_every=1
  )
  found = bytes_of(finished.state)
  assert found.keys() == bytes_of(skipped.state).keys()


def test_rolling_back_leaves_out_more_each_time_and_gives_up(
  tmp_path, mesh, monkeypatch
):
  monkeypatch.setattr(loop, "MAX_ROLLBACKS", 2)
  batches = with_change(mesh, nan_at(5, 6, 7, 8, 9, 10))
  with pytest.raises(loop.NonFiniteError, match="after 2 returns to step 4"):
    train(tmp_path, mesh, batches=batches, on_nan="rollback")
  assert checkpoint.steps(tmp_path / "checkpoints") == [4]


def test_a_rollback_without_a_checkpoint_begins_anew(tmp_path, mesh):
  batches = with_change(mesh, nan_at(2))
  finished = train(tmp_path, mesh, 4, batches=batches, on_nan="rollback")
  assert int(finished.state.opt_state[1].count) == 3


# P9.


def test_seconds_of_all_phases_sum_to_the_wall_time(tmp_path, mesh):
  def slow(start):
    for batch in toy.make_batches(mesh)(start):
      time.sleep(0.03)
      yield batch

  began = time.monotonic()
  evaluators = [driver.Evaluator("weight", 4, seconds=0.1)]
  seconds = train(tmp_path, mesh, batches=slow, evaluators=evaluators).seconds
  wall = time.monotonic() - began
  assert sum(seconds.values()) == pytest.approx(wall, abs=0.5)
  assert 12 * 0.03 < seconds["data_wait"] < 12 * 0.03 + 1
  assert 0.3 < seconds["evaluation"] < 1.5
  assert seconds["compile"] > 0 and seconds["checkpoint"] > 0
  assert seconds["lost"] == 0


# Evaluators.


def test_finished_evaluations_are_not_run_again(tmp_path, mesh):
  calls = []

  class Evaluator(driver.Evaluator):
    def run(self, state, step):
      calls.append((self.name, step))
      if step == 8 and self.name == "second" and calls.count(calls[-1]) == 1:
        raise RuntimeError("no luck")
      return super().run(state, step)

  evaluators = [Evaluator("first", 4), Evaluator("second", 8)]
  run = functools.partial(train, tmp_path, mesh, evaluators=evaluators)
  with pytest.raises(RuntimeError, match="no luck"):
    run()
  run()
  assert calls.count(("first", 8)) == 1
  assert calls.count(("second", 8)) == 2
  names = [
    (line["step"], name)
    for line in driver.lines(tmp_path)
    for name in line
    if name.startswith("eval/")
  ]
  assert names == [
    (4, "eval/first"),
    (8, "eval/first"),
    (8, "eval/second"),
    (12, "eval/first"),
    (12, "eval/second"),
  ]


class Likelihood(driver.Evaluator):
  """Falls to its lowest at step 4."""

  def run(self, state, step):
    return driver.Result({"eval/bits": abs(step - 4) + 1.0}, {})


def test_the_best_checkpoint_is_kept_besides_the_newest(tmp_path, mesh):
  evaluators = [Likelihood("likelihood", 2)]
  run = functools.partial(
    train, mesh=mesh, evaluators=evaluators, checkpoint_every=2
  )
  run(tmp_path / "best", best="eval/bits")
  kept = rundir.RunDirectory(tmp_path / "best")
  assert sorted(checkpoint.steps(kept.checkpoints)) == [4, 10, 12]
  assert kept.best("eval/bits") == 4 and kept.best("eval/other") is None
  run(tmp_path / "newest")
  newest = rundir.RunDirectory(tmp_path / "newest")
  assert sorted(checkpoint.steps(newest.checkpoints)) == [10, 12]
  assert newest.best("eval/bits") == 10  # of those that are there


def test_a_best_scalar_that_nobody_gives_ends_the_run(tmp_path, mesh):
  evaluators = [Likelihood("likelihood", 4)]
  with pytest.raises(ValueError, match=r"'eval/bitz' .* one of eval/bits"):
    train(tmp_path, mesh, evaluators=evaluators, best="eval/bitz")
  run = rundir.RunDirectory(tmp_path)
  assert checkpoint.steps(run.checkpoints) and run.status()["step"] == 4
  assert (
    train(tmp_path, mesh, evaluators=evaluators, best="eval/bits").step == 12
  )


def test_a_signal_ends_an_evaluation(tmp_path, mesh):
  class Evaluator(driver.Evaluator):
    def run(self, state, step):
      signal.raise_signal(signal.SIGTERM)
      raise AssertionError("the signal has to leave this function")

  before = signal.getsignal(signal.SIGTERM)
  finished = train(tmp_path, mesh, evaluators=[Evaluator("long", 5)])
  assert (finished.reason, finished.step) == ("SIGTERM", 5)
  assert checkpoint.steps(tmp_path / "checkpoints")[-1] == 5
  assert signal.getsignal(signal.SIGTERM) == before


# Trackers and disks that do not work.


class Broken:
  """A tracker that raises."""

  def scalars(self, step, values):
    """Raise."""
    raise RuntimeError("no network")

  images = texts = scalars


class Hanging:
  """A tracker that never returns."""

  def scalars(self, step, values):
    """Sleep."""
    time.sleep(3600)

  images = texts = scalars


def test_a_broken_tracker_changes_nothing(tmp_path, mesh, caplog, monkeypatch):
  plain = train(tmp_path / "plain", mesh)
  fan = functools.partial(loop.reporting.writer_lib.FanOut, patience=0.2)
  monkeypatch.setattr(loop.reporting.writer_lib, "FanOut", fan)
  writers = [Broken(), Hanging()]
  tracked = train(tmp_path / "tracked", mesh, writers=writers)
  assert bytes_of(plain.state) == bytes_of(tracked.state)
  assert driver.lines(tmp_path / "plain") == driver.lines(tmp_path / "tracked")
  assert "Broken failed and is off" in caplog.text
  assert "Hanging did not finish" in caplog.text


def test_a_run_survives_a_failing_save_and_stops_at_the_third(
  tmp_path, mesh, monkeypatch, caplog
):
  commit, calls = checkpoint.folders.commit, []

  def failing(bad, *args):
    calls.append(args)
    if len(calls) in bad:
      raise OSError(28, "No space left on device")
    commit(*args)

  fail = lambda *bad: monkeypatch.setattr(
    checkpoint.folders, "commit", functools.partial(failing, bad)
  )
  fail(2)
  assert train(tmp_path / "once", mesh, 16).reason == "completed"
  assert "No space left" in caplog.text and "MiB free" in caplog.text
  calls.clear()
  fail(2, 3, 4, 5)
  with pytest.raises(checkpoint.CheckpointError, match="No space left"):
    train(tmp_path / "always", mesh, 40)
  assert checkpoint.steps(tmp_path / "always" / "checkpoints") == [4]


def test_a_second_process_is_kept_out_and_the_config_is_remembered(
  tmp_path, mesh
):
  train(tmp_path, mesh, 4)
  with pytest.raises(rundir.RunDirectoryError, match="toy: 1 -> 2"):
    rundir.RunDirectory.open(tmp_path, {"toy": 2})


def test_damaged_frozen_arrays_are_made_again(tmp_path, mesh, caplog):
  task = toy.Toy(frozen=True)
  train(tmp_path, mesh, 4, task=task)
  (saved,) = (tmp_path / "checkpoints").glob("frozen-*")
  files = [path for path in saved.rglob("*") if path.is_file()]
  largest = max(files, key=lambda path: path.stat().st_size)
  content = bytearray(largest.read_bytes())
  content[len(content) // 2] ^= 255
  largest.write_bytes(content)
  with caplog.at_level(logging.WARNING):
    assert train(tmp_path, mesh, 8, task=task).step == 8
  assert "they were made again" in caplog.text
  assert "moving" in caplog.text  # the damaged folder stays beside the new one
  (found,) = (x for x in saved.parent.glob("frozen-*") if x.name == saved.name)
  assert checkpoint.restore_sampling(found.parent, mesh).step == 8


def test_other_frozen_arrays_do_not_replace_damaged_ones(tmp_path, mesh):
  train(tmp_path, mesh, 4, task=toy.Toy(frozen=True))
  (saved,) = (tmp_path / "checkpoints").glob("frozen-*")
  for path in saved.glob("*.json"):
    path.write_text("{}")
  other = {"scale": {"w": np.zeros(toy.FEATURES, np.float32)}}
  task = toy.Toy(frozen=True)
  init = toy.Toy.init
  changed = lambda self, *args: init(self, *args).replace(frozen=other)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(toy.Toy, "init", changed)
    with pytest.raises(checkpoint.CheckpointError, match="are damaged"):
      train(tmp_path, mesh, 8, task=task)


def test_frozen_arrays_given_to_the_run_reach_the_step(tmp_path, mesh):
  frozen = {"scale": {"w": np.full(8, 0.5, np.float32)}}
  task = toy.Toy(frozen=True)
  inside = train(tmp_path / "inside", mesh, 4, task=task)
  given = train(tmp_path / "given", mesh, 4, task=task, frozen=frozen)
  assert bytes_of(inside.state) == bytes_of(given.state)
  other = {"scale": {"w": np.full(8, 0.25, np.float32)}}
  with pytest.raises(checkpoint.CheckpointError, match="frozen arrays"):
    train(tmp_path / "given", mesh, 8, task=task, frozen=other)
