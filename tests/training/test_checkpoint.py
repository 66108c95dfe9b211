"""P4, P5 and P7: damage is found, nothing unknown is deleted, two remain."""

import logging
import os
import pathlib
import resource
import shutil
import tempfile
import unittest.mock

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.training import toy
from training import (
  checkpoint,
  checkpoint_folder,
  checkpoint_manifest,
  sharding,
  trees,
)

RULE = sharding.FsdpRule(min_size=8)


@pytest.fixture(scope="module")
def mesh():
  """One device."""
  return sharding.make_mesh(devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def state(mesh):
  """The toy's state, with frozen arrays."""
  return sharding.init(
    toy.Toy(frozen=True).init, mesh, jax.random.key(0), {}, rule=RULE
  )


@pytest.fixture(scope="module")
def shapes(state):
  """Its shapes."""
  return jax.eval_shape(lambda: state)


def at(state, step):
  """The state with another step, and other parameters."""
  params = jax.tree.map(lambda x: x + step, state.params)
  return state.replace(step=jnp.int32(step), params=params)


@pytest.fixture(scope="module")
def saved(state, tmp_path_factory):
  """A folder with checkpoints 10 and 20."""
  folder = tmp_path_factory.mktemp("saved") / "checkpoints"
  checkpointer = checkpoint.Checkpointer(folder)
  for step in (10, 20):
    checkpointer.save(at(state, step), {"note": step}, wait=True)
  return folder


def assert_equal(a, b):
  """Compare bytes and structure."""
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
    assert x.dtype == y.dtype
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_restore_returns_what_was_saved(saved, state, shapes, mesh):
  restored = checkpoint.Checkpointer(saved).restore(shapes, mesh, RULE)
  assert restored.step == 20
  assert restored.info == {"note": 20}
  assert_equal(restored.state, at(state, 20))


@pytest.mark.parametrize(
  "shape", [{"data": 8}, {"data": 2, "fsdp": 4}, {"fsdp": 4, "tensor": 2}]
)
def test_restore_moves_to_another_mesh(saved, state, shapes, shape):
  mesh = sharding.make_mesh(shape)
  restored = checkpoint.Checkpointer(saved).restore(shapes, mesh, RULE)
  assert_equal(restored.state, at(state, 20))
  found = restored.state.params["layers"]["kernel"].sharding
  assert found.is_equivalent_to(
    sharding.named(mesh, "params/layers/kernel", (2, 8, 16), RULE), 3
  )


def test_a_sharded_state_restores_on_one_device(state, shapes, mesh, tmp_path):
  wide = sharding.make_mesh({"data": 2, "fsdp": 4})
  sharded = jax.device_put(state, sharding.shardings(wide, shapes, RULE))
  checkpointer = checkpoint.Checkpointer(tmp_path)
  checkpointer.save(sharded, wait=True)
  assert_equal(checkpointer.restore(shapes, mesh, RULE).state, state)


def test_save_copies_before_the_state_is_donated(state, shapes, mesh, tmp_path):
  step = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
  current = jax.tree.map(jnp.copy, state)
  expected = jax.device_get(current)
  checkpointer = checkpoint.Checkpointer(tmp_path)
  checkpointer.save(current)
  for _ in range(5):
    current = step(current)
  checkpointer.wait()
  assert_equal(checkpointer.restore(shapes, mesh).state, expected)


def _flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def _truncate(path):
  path.write_bytes(path.read_bytes()[:-1])


def _empty(path):
  path.write_bytes(b"")


def _swap(path):
  others = (p for p in path.parent.parent.rglob("*") if p.is_file())
  other = next(p for p in others if p.read_bytes() != path.read_bytes())
  data = path.read_bytes()
  path.write_bytes(other.read_bytes())
  other.write_bytes(data)


DAMAGE = {
  "flipped bit": _flip,
  "truncated": _truncate,
  "emptied": _empty,
  "missing": pathlib.Path.unlink,
  "swapped": _swap,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_to_every_file_is_found(saved, damage, tmp_path):
  files = sorted(p.relative_to(saved) for p in saved.rglob("*") if p.is_file())
  for name in files:
    if name.parts[0] == "10":
      continue
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    path = folder / name
    if path.stat().st_size or damage in ("missing", "swapped"):
      DAMAGE[damage](path)
      assert checkpoint_folder.problems(folder / name.parts[0]), name
    shutil.rmtree(folder)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
  saved, damage, state, shapes, mesh, tmp_path, caplog
):
  folder = tmp_path / "checkpoints"
  shutil.copytree(saved, folder)
  largest = max(
    (p for p in (folder / "20").rglob("*") if p.is_file()),
    key=lambda p: p.stat().st_size,
  )
  DAMAGE[damage](largest)
  before = _content(folder)
  checkpointer = checkpoint.Checkpointer(folder)
  with caplog.at_level(logging.WARNING):
    restored = checkpointer.restore(shapes, mesh)
  assert_equal(restored.state, at(state, 10))
  assert "checkpoint 20 is damaged" in caplog.text
  assert "step 10" in caplog.text
  assert _content(folder) == before
  sampling = checkpoint.restore_sampling(folder, mesh)
  assert sampling.step == 10


def _content(folder):
  return {
    str(p.relative_to(folder)): p.read_bytes()
    for p in folder.rglob("*")
    if p.is_file()
  }


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
  _flip(folder / "20" / checkpoint_manifest.NAME)
  kept = _content(folder / "20")
  checkpointer = checkpoint.Checkpointer(folder)
  checkpointer.save(at(state, 20), wait=True)
  assert _content(folder / "20.aside-1") == kept
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
    assert_equal(found.state.params, state.ema)
    assert_equal(found.state.frozen, state.frozen)
    assert found.state.opt_state == ()
  plain = checkpoint.restore_sampling(saved, mesh, average=False)
  assert_equal(plain.state.params, at(state, 20).params)


def test_frozen_arrays_are_saved_once_and_must_stay_the_same(
  saved, state, shapes, mesh
):
  assert len(list(saved.glob("frozen-*"))) == 1
  checkpointer = checkpoint.Checkpointer(saved)
  same = checkpointer.restore(shapes, mesh, frozen=state.frozen)
  assert_equal(same.state.frozen, state.frozen)
  other = jax.tree.map(lambda x: x + 1, state.frozen)
  with pytest.raises(checkpoint.CheckpointError, match="frozen arrays"):
    checkpointer.restore(shapes, mesh, frozen=other)


def test_a_state_that_is_not_finite_is_not_saved(state, tmp_path):
  checkpointer = checkpoint.Checkpointer(tmp_path)
  checkpointer.save(at(state, 1), wait=True)
  bad = at(state, 2)
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
  from training import state as state_lib

  params = {"none": jnp.zeros((0, 3)), "one": jnp.ones(1, jnp.bfloat16)}
  state = state_lib.State(jnp.int32(1), params, None, (), {}, {})
  checkpointer = checkpoint.Checkpointer(tmp_path)
  checkpointer.save(state, wait=True)
  shapes = jax.eval_shape(lambda: state)
  assert_equal(checkpointer.restore(shapes, mesh).state, state)


def test_keep_must_leave_two(tmp_path):
  with pytest.raises(ValueError, match="at least 2"):
    checkpoint.Checkpointer(tmp_path, keep=1)


def test_a_failing_disk_is_reported_with_path_and_space(
  saved, state, shapes, mesh, tmp_path, monkeypatch
):
  folder = tmp_path / "checkpoints"
  shutil.copytree(saved, folder)
  before = _content(folder)
  for name in ("open", "fsync", "rename", "mkdir"):
    checkpointer = checkpoint.Checkpointer(folder)
    with monkeypatch.context() as patch:
      _fail(patch, name)
      with pytest.raises(checkpoint.CheckpointError) as info:
        checkpointer.save(at(state, 30), wait=True)
    assert "No space left" in str(info.value)
    assert "MiB free" in str(info.value)
    assert str(folder) in str(info.value)
    assert _content(folder) == before
    assert checkpointer.restore(shapes, mesh).step == 20


def test_a_disk_that_fills_up_while_arrays_are_written_is_survived(
  state, shapes, mesh, tmp_path
):
  # A limit on the size of files stops Orbax in the middle, like a full disk.
  checkpointer = checkpoint.Checkpointer(tmp_path)
  checkpointer.save(at(state, 1), wait=True)
  before = _content(tmp_path)
  large = {"noise": jax.random.normal(jax.random.key(0), (2**18,))}
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, hard))
  try:
    with pytest.raises(checkpoint.CheckpointError) as info:
      checkpointer.save(at(state, 2).replace(model_state=large), wait=True)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert "MiB free" in str(info.value) and str(tmp_path) in str(info.value)
  # Orbax's threads may write a little longer; the next save cleans up.
  found = _content(tmp_path)
  assert {k: v for k, v in found.items() if ".tmp-" not in k} == before
  assert checkpointer.restore(shapes, mesh).step == 1
  checkpointer.save(at(state, 2), wait=True)
  assert checkpoint.steps(tmp_path) == [1, 2]


def _fail(patch, name):
  def fail(*args, **kwargs):
    raise OSError(28, "No space left on device")

  owner = {
    "open": (checkpoint_manifest, "open"),
    "fsync": (os, "fsync"),
    "rename": (os, "rename"),
    "mkdir": (pathlib.Path, "mkdir"),
  }[name]
  patch.setattr(*owner, fail, raising=False)


_SAVE = ("save", 0, "")


@hypothesis.settings(
  max_examples=40,
  deadline=None,
  suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(
  keep=st.integers(2, 4),
  actions=st.lists(
    st.one_of(
      st.just(_SAVE),
      st.just(("restart", 0, "")),
      st.tuples(
        st.just("damage"), st.integers(0, 5), st.sampled_from(sorted(DAMAGE))
      ),
    ),
    max_size=14,
  ),
)
@hypothesis.example(2, [_SAVE, _SAVE, ("damage", 0, "flipped bit"), _SAVE])
@hypothesis.example(2, [_SAVE, _SAVE, ("damage", 1, "flipped bit"), _SAVE])
def test_retention_always_leaves_two_good_ones(keep, actions):
  # Against a model: a set of good steps and one of damaged ones.
  with (
    tempfile.TemporaryDirectory() as temporary,
    unittest.mock.patch("os.fsync"),
  ):
    folder = pathlib.Path(temporary)
    good, damaged, step = set(), set(), 0
    checkpointer = _Quick(folder, keep)
    for action, index, kind in actions:
      if action == "restart":
        checkpointer = _Quick(folder, keep)
      elif action == "save":
        step += 1
        checkpointer.save_quickly(step)
        good.add(step)
        assert set(sorted(good)[-2:]) <= set(checkpoint.steps(folder))
        good &= set(checkpoint.steps(folder))
        assert len(good) <= keep
      elif good:
        chosen = sorted(good)[index % len(good)]
        DAMAGE[kind](folder / str(chosen) / "data" / "array")
        if not _is_good(folder, chosen):
          good.remove(chosen)
          damaged.add(chosen)
      assert damaged <= set(checkpoint.steps(folder))


def _is_good(folder, step):
  return not checkpoint_folder.problems(folder / str(step), step)


class _Quick(checkpoint.Checkpointer):
  """Commits a small file instead of arrays, then expires as usual."""

  def save_quickly(self, step):
    temporary = self._folder / f".tmp-{step}"
    (temporary / "data").mkdir(parents=True)
    (temporary / "data" / "array").write_bytes(b"%d" % step * 50)
    content = {"step": step, "arrays": {}, "frozen": None, "info": {}}
    checkpoint_folder.commit(temporary, self._folder / str(step), content)
    self._expire()


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
