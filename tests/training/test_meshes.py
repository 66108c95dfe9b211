"""P2: the same losses and examples on any number of devices and processes."""

import socket
import time

import jax
import numpy as np
import pytest

from tests.training import driver, toy
from training import checkpoint, loop, options, rundir, sharding

LOSS_TOLERANCE = 1e-5


def _train(path, mesh, steps):
  directory = rundir.RunDirectory.open(path, {})
  try:
    return loop.run(
      toy.Toy(frozen=True, accumulate=2),
      toy.make_batches(mesh, batch_size=16),
      options.Options(
        num_steps=steps, batch_size=16, log_every=1, checkpoint_every=4
      ),
      directory,
      mesh,
      rule=sharding.FsdpRule(min_size=8),
    )
  finally:
    directory.close()


def _assert_close(found, expected):
  """Examples exactly, losses and gradients to a tolerance."""
  assert len(found) == len(expected)
  for a, b in zip(found, expected):
    assert a["step"] == b["step"]
    assert a["data/ids"] == b["data/ids"]
    for name in ("train/loss", "train/grad_norm"):
      assert a[name] == pytest.approx(b[name], rel=LOSS_TOLERANCE)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """Metrics of one device."""
  path = tmp_path_factory.mktemp("alone")
  _train(path, sharding.make_mesh(devices=jax.devices()[:1]), 8)
  return driver.lines(path)


@pytest.mark.parametrize(
  "shape",
  [
    {"data": 8},
    pytest.param({"data": 2, "fsdp": 4}, marks=pytest.mark.slow),
    pytest.param({"fsdp": 8}, marks=pytest.mark.slow),
    pytest.param({"data": 2, "tensor": 4}, marks=pytest.mark.slow),
  ],
)
def test_eight_devices_give_the_losses_of_one(tmp_path, alone, shape):
  _train(tmp_path, sharding.make_mesh(shape), 8)
  _assert_close(driver.lines(tmp_path), alone)


def test_a_run_moves_between_meshes_at_a_checkpoint(tmp_path, alone):
  wide = sharding.make_mesh({"data": 2, "fsdp": 4})
  _train(tmp_path, wide, 4)
  narrow = sharding.make_mesh({"fsdp": 2}, devices=jax.devices()[:2])
  finished = _train(tmp_path, narrow, 8)
  _assert_close(driver.lines(tmp_path), alone)
  assert finished.state.params["layers"]["kernel"].sharding.mesh == narrow


def _free_port():
  with socket.socket() as server:
    server.bind(("127.0.0.1", 0))
    return server.getsockname()[1]


def _start_two(spec):
  spec = spec | {"port": _free_port(), "processes": 2}
  spec["mesh"] = {"data": 1, "fsdp": -1}
  return [driver.start(spec | {"process": i}, devices=2) for i in range(2)]


def _finish(processes):
  try:
    outputs = [p.communicate(timeout=180)[0] for p in processes]
  finally:
    for process in processes:
      process.kill()
  for process, output in zip(processes, outputs):
    assert process.returncode == 0, output


def test_two_processes_give_the_losses_of_one_and_hand_over(tmp_path):
  one, two = str(tmp_path / "one"), str(tmp_path / "two")
  single = driver.start({"workdir": one, "steps": 10}, devices=4)
  _finish(_start_two({"workdir": two, "steps": 5}))
  _finish([single])
  # One process takes over from two; the two would take over from it.
  status, output = driver.run({"workdir": two, "steps": 10})
  assert status == 0, output
  found, expected = driver.lines(two), driver.lines(one)
  # The shorter run wrote a line at its end.
  at = {line["step"]: line for line in found if "train/loss" in line}
  for line in expected:
    if "train/loss" in line and line["step"] in (2, 4, 8, 10):
      assert at[line["step"]]["train/loss"] == pytest.approx(
        line["train/loss"], rel=LOSS_TOLERANCE
      )
  assert checkpoint.steps(tmp_path / "two" / "checkpoints") == [5, 10]


@pytest.mark.slow
def test_two_processes_restore_what_one_saved_and_stop_together(tmp_path):
  workdir = str(tmp_path)
  status, output = driver.run({"workdir": workdir, "steps": 5})
  assert status == 0, output
  spec = {"workdir": workdir, "steps": 10_000, "checkpoint_every": 5000}
  processes = _start_two(spec | {"seconds_a_step": 0.02})
  _wait_for(tmp_path, processes, 12)
  # Only one of them gets the signal; both save the same step.
  processes[1].terminate()
  outputs = [p.communicate(timeout=120)[0] for p in processes]
  assert [p.returncode for p in processes] == [0, 0], outputs
  ends = [x.strip().splitlines()[-1].split()[-1] for x in outputs]
  assert ends[0] == ends[1]
  assert checkpoint.steps(tmp_path / "checkpoints")[-1] == int(ends[0])


@pytest.mark.slow
def test_a_dead_peer_makes_the_other_exit(tmp_path):
  spec = {"workdir": str(tmp_path), "steps": 10_000, "checkpoint_every": 5}
  processes = _start_two(spec | {"seconds_a_step": 0.02})
  _wait_for(tmp_path, processes, 12)
  processes[1].kill()
  try:
    processes[0].communicate(timeout=180)
  finally:
    processes[0].kill()
  assert processes[0].returncode not in (0, -9)
  # What was saved before is good.
  status, output = driver.run({"workdir": str(tmp_path), "steps": 20})
  assert status == 0, output


def _wait_for(workdir, processes, step, timeout=120):
  deadline = time.monotonic() + timeout
  while time.monotonic() < deadline:
    if any(line["step"] >= step for line in driver.lines(workdir)):
      return
    for process in processes:
      assert process.poll() is None, process.communicate()[0]
    time.sleep(0.05)
  raise AssertionError(f"step {step} was not reached")


def test_the_fsdp_rule_takes_the_first_dimension_after_the_layers():
  mesh = sharding.make_mesh({"fsdp": 4, "tensor": 2})
  rule = sharding.FsdpRule(min_size=16, tensor=((r"wide/kernel$", -1),))
  spec = lambda name, shape: tuple(rule(mesh, name, shape))
  assert spec("params/out/kernel", (8, 16)) == ("fsdp",)
  assert spec("params/out/kernel", (6, 16)) == (None, "fsdp")
  assert spec("params/out/kernel", (5, 7)) == ()
  assert spec("params/out/bias", (8,)) == ()
  assert spec("params/layers/out/kernel", (8, 8, 16)) == (None, "fsdp")
  assert spec("ema/core/runs_1/q/kernel", (8, 8, 16)) == (None, "fsdp")
  assert spec("ema/wide/kernel", (8, 16)) == ("fsdp", "tensor")
  assert spec("opt_state/1/mu/wide/kernel", (5, 16)) == (None, "tensor")
  # The window of a convolution is never split.
  assert spec("patch/kernel", (4, 4, 3, 8)) == (None, None, None, "fsdp")
  assert spec("layers/conv/kernel", (2, 4, 4, 8, 8))[3:] == ("fsdp",)


def test_sharded_initialisation_equals_the_unsharded_one():
  task = toy.Toy(width=32)
  key = jax.random.key(1)
  plain = jax.jit(task.init)(key, {})
  mesh = sharding.make_mesh({"data": 2, "fsdp": 4})
  rule = sharding.FsdpRule(min_size=8)
  split = sharding.init(task.init, mesh, key, {}, rule=rule)
  assert split.opt_state[1].mu["layers"]["kernel"].sharding.spec[1] == "fsdp"
  for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(split)):
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize(
  "shape, message",
  [
    ({"model": 2}, "unknown mesh axes"),
    ({"data": -1, "fsdp": -1}, "at most one -1"),
    ({"data": 3}, "must multiply to the 8 devices"),
    ({"data": 3, "fsdp": -1}, "must multiply to the 8 devices"),
    ({"data": 0}, "must be positive"),
  ],
)
def test_an_impossible_mesh_is_explained(shape, message):
  with pytest.raises(ValueError, match=message):
    sharding.make_mesh(shape)


def test_a_batch_that_the_mesh_does_not_divide_is_explained():
  mesh = sharding.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
  sharding.check_batch(mesh, 8)
  with pytest.raises(ValueError, match="batch_size 10 must be a multiple of 4"):
    sharding.check_batch(mesh, 10)
  with pytest.raises(ValueError, match=r"change eval\.batch_size or"):
    sharding.check_batch(mesh, 10, "eval.batch_size")
