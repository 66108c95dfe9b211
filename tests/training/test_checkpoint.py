"""P4: damage is found and never loaded; what was saved comes back."""

import logging
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training import cases, toy
from training import (
  checkpoint,
  checkpoint_folder,
  checkpoint_manifest,
  sharding,
  trees,
)
from training import state as state_lib


def test_restore_returns_what_was_saved(saved, state, shapes, mesh):
  restored = checkpoint.Checkpointer(saved).restore(shapes, mesh, cases.RULE)
  assert restored.step == 20
  assert restored.info == {"note": 20}
  cases.assert_equal(restored.state, cases.at(state, 20))


@pytest.mark.parametrize(
  "shape", [{"data": 8}, {"data": 2, "fsdp": 4}, {"fsdp": 4, "tensor": 2}]
)
def test_restore_moves_to_another_mesh(saved, state, shapes, shape):
  mesh = sharding.make_mesh(shape)
  restored = checkpoint.Checkpointer(saved).restore(shapes, mesh, cases.RULE)
  cases.assert_equal(restored.state, cases.at(state, 20))
  found = restored.state.params["layers"]["kernel"].sharding
  assert found.is_equivalent_to(
    sharding.named(mesh, "params/layers/kernel", (2, 8, 16), cases.RULE), 3
  )


def test_a_sharded_state_restores_on_one_device(state, shapes, mesh, tmp_path):
  wide = sharding.make_mesh({"data": 2, "fsdp": 4})
  sharded = jax.device_put(state, sharding.shardings(wide, shapes, cases.RULE))
  checkpointer = checkpoint.Checkpointer(tmp_path)
  checkpointer.save(sharded, wait=True)
  cases.assert_equal(
    checkpointer.restore(shapes, mesh, cases.RULE).state, state
  )


def test_save_copies_before_the_state_is_donated(state, shapes, mesh, tmp_path):
  step = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
  current = jax.tree.map(jnp.copy, state)
  expected = jax.device_get(current)
  checkpointer = checkpoint.Checkpointer(tmp_path)
  checkpointer.save(current)
  for _ in range(5):
    current = step(current)
  checkpointer.wait()
  cases.assert_equal(checkpointer.restore(shapes, mesh).state, expected)


@pytest.mark.parametrize("damage", cases.DAMAGE)
def test_damage_to_every_file_is_found(saved, damage, tmp_path):
  files = sorted(p.relative_to(saved) for p in saved.rglob("*") if p.is_file())
  for name in files:
    if name.parts[0] == "10":
      continue
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    path = folder / name
    if path.stat().st_size or damage in ("missing", "swapped"):
      cases.DAMAGE[damage](path)
      assert checkpoint_folder.problems(folder / name.parts[0]), name
    shutil.rmtree(folder)


@pytest.mark.parametrize("damage", cases.DAMAGE)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
  saved, damage, state, shapes, mesh, tmp_path, caplog
):
  folder = tmp_path / "checkpoints"
  shutil.copytree(saved, folder)
  largest = max(
    (p for p in (folder / "20").rglob("*") if p.is_file()),
    key=lambda p: p.stat().st_size,
  )
  cases.DAMAGE[damage](largest)
  before = cases.content(folder)
  checkpointer = checkpoint.Checkpointer(folder)
  with caplog.at_level(logging.WARNING):
    restored = checkpointer.restore(shapes, mesh)
  cases.assert_equal(restored.state, cases.at(state, 10))
  assert "checkpoint 20 is damaged" in caplog.text
  assert "step 10" in caplog.text
  assert cases.content(folder) == before
  sampling = checkpoint.restore_sampling(folder, mesh)
  assert sampling.step == 10


def test_an_older_step_is_restored_on_request(saved, mesh, tmp_path):
  folder = tmp_path / "checkpoints"
  shutil.copytree(saved, folder)
  assert checkpoint.restore_sampling(folder, mesh, step=10).step == 10
  with pytest.raises(
    checkpoint.CheckpointError, match=r"15 .*: take one of 10"
  ):
    checkpoint.restore_sampling(folder, mesh, step=15)
  (folder / "10" / checkpoint_manifest.NAME).unlink()
  with pytest.raises(
    checkpoint.CheckpointError, match=r"damaged .*step 10: .*take one of 20$"
  ):
    checkpoint.restore_sampling(folder, mesh, step=10)
  (folder / "20" / checkpoint_manifest.NAME).unlink()
  with pytest.raises(checkpoint.CheckpointError, match="no other good one"):
    checkpoint.restore_sampling(folder, mesh, step=10)


def test_swapped_checkpoints_are_found(saved, shapes, mesh, tmp_path):
  folder = tmp_path / "checkpoints"
  shutil.copytree(saved, folder)
  os.rename(folder / "20", folder / "30")
  assert checkpoint.Checkpointer(folder).restore(shapes, mesh).step == 10


def test_no_good_checkpoint_is_an_error_that_names_all(
  saved, shapes, mesh, tmp_path
):
  folder = tmp_path / "checkpoints"
  shutil.copytree(saved, folder)
  for step in ("10", "20"):
    (folder / step / checkpoint_manifest.NAME).unlink()
  with pytest.raises(checkpoint.CheckpointError, match="no good checkpoint"):
    checkpoint.Checkpointer(folder).restore(shapes, mesh)
  assert checkpoint.steps(folder) == [10, 20]


def test_content_that_differs_from_the_manifest_is_not_used(
  saved, state, shapes, mesh, tmp_path
):
  # The files are as they were hashed, but not what was in memory.
  folder = tmp_path / "checkpoints"
  shutil.copytree(saved, folder)
  manifest = checkpoint_manifest.read(folder / "20")
  manifest["arrays"]["params/out/bias"]["sum"] = "00000000"
  checkpoint_manifest.write(folder / "20", manifest)
  assert checkpoint.Checkpointer(folder).restore(shapes, mesh).step == 10


def test_a_damaged_checkpoint_is_moved_aside_when_its_step_is_saved_again(
  saved, state, shapes, mesh, tmp_path
):
  folder = tmp_path / "checkpoints"
  shutil.copytree(saved, folder)
  cases.flip(folder / "20" / checkpoint_manifest.NAME)
  kept = cases.content(folder / "20")
  checkpointer = checkpoint.Checkpointer(folder)
  checkpointer.save(cases.at(state, 20), wait=True)
  assert cases.content(folder / "20.aside-1") == kept
  assert checkpointer.restore(shapes, mesh).step == 20


def test_a_copied_checkpoint_restores(saved, shapes, mesh, tmp_path):
  folder = tmp_path / "elsewhere"
  folder.mkdir()
  for path in saved.iterdir():
    if path.name != "10":
      shutil.copytree(path, folder / path.name)
  assert checkpoint.Checkpointer(folder).restore(shapes, mesh).step == 20


def test_another_model_is_refused_with_a_short_difference(saved, mesh):
  task = toy.Toy(width=32)
  shapes = jax.eval_shape(task.init, jax.random.key(0), {})
  with pytest.raises(checkpoint.CheckpointError) as info:
    checkpoint.Checkpointer(saved).restore(shapes, mesh)
  text = str(info.value)
  assert "params/layers/kernel: float32[2, 8, 16] in the checkpoint" in text
  assert "float32[2, 8, 32] now" in text
  assert len(text.splitlines()) < 20


def test_another_dtype_is_refused(saved, shapes, mesh):
  half = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), shapes.params
  )
  with pytest.raises(checkpoint.CheckpointError, match="bfloat16"):
    checkpoint.Checkpointer(saved).restore(shapes.replace(params=half), mesh)


def test_sampling_restores_the_average_without_the_optimiser(
  saved, state, shapes, mesh
):
  for known in (None, shapes):
    found = checkpoint.restore_sampling(saved, mesh, shapes=known)
    assert found.step == 20
    cases.assert_equal(found.state.params, state.ema)
    cases.assert_equal(found.state.frozen, state.frozen)
    assert found.state.opt_state == ()
  plain = checkpoint.restore_sampling(saved, mesh, average=False)
  cases.assert_equal(plain.state.params, cases.at(state, 20).params)


def test_frozen_arrays_are_saved_once_and_must_stay_the_same(
  saved, state, shapes, mesh
):
  assert len(list(saved.glob("frozen-*"))) == 1
  checkpointer = checkpoint.Checkpointer(saved)
  same = checkpointer.restore(shapes, mesh, frozen=state.frozen)
  cases.assert_equal(same.state.frozen, state.frozen)
  other = jax.tree.map(lambda x: x + 1, state.frozen)
  with pytest.raises(checkpoint.CheckpointError, match="frozen arrays"):
    checkpointer.restore(shapes, mesh, frozen=other)


def test_a_state_that_is_not_finite_is_not_saved(state, tmp_path):
  checkpointer = checkpoint.Checkpointer(tmp_path)
  checkpointer.save(cases.at(state, 1), wait=True)
  bad = cases.at(state, 2)
  bad = bad.replace(params=jax.tree.map(lambda x: x * jnp.nan, bad.params))
  with pytest.raises(checkpoint.NonFiniteError, match="params/layers/kernel"):
    checkpointer.save(bad)
  assert checkpoint.steps(tmp_path) == [1]


def test_leftovers_are_cleaned_and_strangers_left_alone(state, tmp_path):
  for name in (".tmp-30", "notes", "7x", "20.aside-1"):
    (tmp_path / name).mkdir()
    (tmp_path / name / "file").touch()
  (tmp_path / "17").touch()
  checkpoint.Checkpointer(tmp_path)
  names = {p.name for p in tmp_path.iterdir()}
  assert names == {"notes", "7x", "20.aside-1", "17"}
  assert checkpoint.steps(tmp_path) == []


def test_empty_arrays_survive(mesh, tmp_path):
  params = {"none": jnp.zeros((0, 3)), "one": jnp.ones(1, jnp.bfloat16)}
  state = state_lib.State(jnp.int32(1), params, None, (), {}, {})
  checkpointer = checkpoint.Checkpointer(tmp_path)
  checkpointer.save(state, wait=True)
  shapes = jax.eval_shape(lambda: state)
  cases.assert_equal(checkpointer.restore(shapes, mesh).state, state)


def test_checksums_do_not_depend_on_the_sharding():
  mesh = sharding.make_mesh({"fsdp": 8})
  draw = np.random.default_rng(0)
  for dtype in (jnp.float32, jnp.bfloat16, jnp.int8, jnp.uint32, bool):
    host = jnp.asarray(draw.integers(0, 2, (16, 3, 5))).astype(dtype)
    split = jax.device_put(host, sharding.batch_sharding(mesh))
    sums, _ = trees.checksums({"host": np.asarray(host), "split": split})
    assert sums["host"] == sums["split"]
    moved, _ = trees.checksums({"moved": np.roll(np.asarray(host), 1, 0)})
    assert moved["moved"] != sums["host"]


def test_checksums_name_what_is_not_finite():
  named = {"a": jnp.ones(3), "b": jnp.array([1.0, jnp.inf]), "c": jnp.int32(1)}
  assert trees.checksums(named)[1] == ["b"]
