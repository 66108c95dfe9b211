"""P5 and P7: full disks are survived, two good checkpoints always remain."""

import os
import pathlib
import resource
import shutil
import tempfile
import unittest.mock

import hypothesis
import jax
import pytest
from hypothesis import strategies as st

from tests.training import cases
from training import checkpoint, checkpoint_folder, checkpoint_manifest


def test_keep_must_leave_two(tmp_path):
  with pytest.raises(ValueError, match="at least 2"):
    checkpoint.Checkpointer(tmp_path, keep=1)


def test_a_failing_disk_is_reported_with_path_and_space(
  saved, state, shapes, mesh, tmp_path, monkeypatch
):
  folder = tmp_path / "checkpoints"
  shutil.copytree(saved, folder)
  before = cases.content(folder)
  for name in ("open", "fsync", "rename", "mkdir"):
    checkpointer = checkpoint.Checkpointer(folder)
    with monkeypatch.context() as patch:
      _fail(patch, name)
      with pytest.raises(checkpoint.CheckpointError) as info:
        checkpointer.save(cases.at(state, 30), wait=True)
    assert "No space left" in str(info.value)
    assert "MiB free" in str(info.value)
    assert str(folder) in str(info.value)
    assert cases.content(folder) == before
    assert checkpointer.restore(shapes, mesh).step == 20


def test_a_disk_that_fills_up_while_arrays_are_written_is_survived(
  state, shapes, mesh, tmp_path
):
  # A limit on the size of files stops Orbax in the middle, like a full disk.
  checkpointer = checkpoint.Checkpointer(tmp_path)
  checkpointer.save(cases.at(state, 1), wait=True)
  before = cases.content(tmp_path)
  large = {"noise": jax.random.normal(jax.random.key(0), (2**18,))}
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, hard))
  try:
    with pytest.raises(checkpoint.CheckpointError) as info:
      checkpointer.save(
        cases.at(state, 2).replace(model_state=large), wait=True
      )
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert "MiB free" in str(info.value) and str(tmp_path) in str(info.value)
  # Orbax's threads may write a little longer; the next save cleans up.
  found = cases.content(tmp_path)
  assert {k: v for k, v in found.items() if ".tmp-" not in k} == before
  assert checkpointer.restore(shapes, mesh).step == 1
  checkpointer.save(cases.at(state, 2), wait=True)
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
        st.just("damage"),
        st.integers(0, 5),
        st.sampled_from(sorted(cases.DAMAGE)),
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
        cases.DAMAGE[kind](folder / str(chosen) / "data" / "array")
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
