"""Checkpoints that are exact, verified and asynchronous, over Orbax v1.

A folder `<step>` appears by one rename, when its arrays and then its manifest
are on the disk. Whatever has another name is not a checkpoint: `.tmp-*` is
ours and disposable, everything else is left alone. A folder that fails its
manifest is never loaded and never deleted.
"""

import contextlib
import dataclasses
import logging
import os
import pathlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from training import checkpoint_folder as folders
from training import checkpoint_manifest, sharding, trees
from training import state as state_lib

MIN_KEEP = 2
_TEMPORARY = ".tmp-"
_LOG = logging.getLogger(__name__)


CheckpointError = folders.CheckpointError
steps = folders.steps


class FrozenDamagedError(CheckpointError):
  """The frozen arrays, which all checkpoints share, are damaged."""


class NonFiniteError(CheckpointError):
  """The state holds nan or infinity, and was not saved."""


@dataclasses.dataclass(frozen=True)
class Restored:
  """What came back: the state, its step and what was noted at the save."""

  state: state_lib.State
  step: int
  info: dict[str, Any]


class Checkpointer:
  """Writes and reads the checkpoints of one run; one at a time per folder.

  Every process of a run makes one and makes the same calls.
  """

  def __init__(
    self,
    folder: str | os.PathLike,
    keep: int = 3,
    spare: Callable[[], int | None] = lambda: None,
  ):
    """Clean what killed saves left and get ready.

    Args:
      folder: `<run>/checkpoints`, shared by all processes.
      keep: checkpoints to keep, at least two.
      spare: returns a step that is kept, too.
    Raises:
      ValueError: `keep` is below two.
    """
    if keep < MIN_KEEP:
      raise ValueError(
        f"keep {keep} must be at least {MIN_KEEP}, so that one damaged "
        "checkpoint does not end a run"
      )
    self._folder = pathlib.Path(folder).absolute()
    self._keep, self._spare = keep, spare
    self._thread: threading.Thread | None = None
    self._error: BaseException | None = None
    self._count = 0
    self._pending: int | None = None
    self._saved: int | None = None
    self._frozen: str | None = None
    if folders.primary():
      with folders.explained(self._folder, "use"):
        self._folder.mkdir(parents=True, exist_ok=True)
    self._clean()

  @property
  def last_saved(self) -> int | None:
    """The newest step this process has saved for good, or restored."""
    return self._saved

  def save(
    self,
    state: state_lib.State,
    info: Mapping[str, Any] | None = None,
    wait: bool = False,
  ) -> None:
    """Save in the background; blocks for the copy from the devices.

    Args:
      state: may be donated as soon as this returns.
      info: JSON values, returned by `restore`.
      wait: block until the checkpoint is complete.
    Raises:
      NonFiniteError: the state is not finite; nothing was written.
      CheckpointError: this save or the one before failed.
    """
    self.wait()
    self._clean()
    step = int(state.step)
    named = trees.flatten(state.replace(frozen={}))
    sums, bad = trees.checksums(named)
    if bad:
      raise NonFiniteError(
        f"the state of step {step} is not finite and was not saved: "
        + folders.summary(bad)
      )
    content = {
      "step": step,
      "arrays": folders.content(named, sums),
      "info": dict(info or {}),
    }
    # A new name each time: threads of a failed save may still be writing.
    self._count += 1
    temporary = self._folder / f"{_TEMPORARY}{step}-{self._count}"
    try:
      content["frozen"] = self._save_frozen(state.frozen)
      with folders.explained(temporary, "save"):
        response = folders.start(temporary, named)
    except CheckpointError:
      self._clean()
      raise

    def finish():
      try:
        with folders.explained(temporary, "save"):
          response.result()
          if folders.primary():
            folders.commit(temporary, self._folder / str(step), content)
            self._saved = step
            self._expire_safely()
      except BaseException as error:
        self._error = error

    self._pending = step
    self._thread = threading.Thread(target=finish, name=f"save-{step}")
    self._thread.start()
    if wait:
      self.wait()

  def wait(self) -> int | None:
    """Block until the save in flight is complete: its step, None without one.

    Raises:
      CheckpointError: it failed; older checkpoints are as they were.
    """
    if self._thread is None:
      return None
    self._thread.join()
    step, error = self._pending, self._error
    self._thread = self._error = self._pending = None
    if error is None:
      self._saved = step
      return step
    self._clean()
    raise error

  def restore(
    self,
    shapes: state_lib.State,
    mesh: Mesh,
    rule: sharding.Rule | None = None,
    frozen: Any = None,
  ) -> Restored | None:
    """Restore the newest good checkpoint onto a mesh.

    Args:
      shapes: `jax.eval_shape` of the state. With an empty `frozen` the saved
        arrays come back as nested dicts.
      mesh: any mesh.
      rule: see `sharding.shardings`.
      frozen: frozen arrays on the mesh, which must be those of the run; None
        loads the saved ones.
    Returns:
      None if there is no checkpoint at all.
    Raises:
      CheckpointError: there are checkpoints and none is good, or the good one
        is of another model (with the difference).
    """
    self.wait()
    restored = _restore_newest(
      self._folder,
      lambda step: _restore(self._folder, step, shapes, mesh, rule, frozen),
    )
    if restored is not None:
      self._saved = restored.step
    return restored

  def _clean(self) -> None:
    """Delete what killed or failed saves and deletions left."""
    if not folders.primary():
      return
    for path in self._folder.glob(_TEMPORARY + "*"):
      _LOG.info("removing %s, the rest of an unfinished save", path.name)
      with contextlib.suppress(OSError):
        folders.delete(path)

  def _save_frozen(self, frozen: Any) -> str | None:
    """Save frozen arrays unless they are there: their fingerprint."""
    if self._frozen is not None:
      return self._frozen
    fingerprint, content = _fingerprint(frozen)
    if fingerprint is None:
      return None
    folder = self._folder / f"frozen-{fingerprint}"
    if folders.agreed_problems(folder):
      temporary = self._folder / f"{_TEMPORARY}frozen"
      with folders.explained(temporary, "save"):
        folders.start(temporary, trees.flatten(frozen)).result()
        if folders.primary():
          content = {"arrays": content, "frozen": fingerprint}
          folders.commit(temporary, folder, content)
    self._frozen = fingerprint
    return fingerprint

  def _expire_safely(self) -> None:
    try:
      self._expire()
    except OSError as error:
      _LOG.warning("cannot delete old checkpoints: %s", error)

  def _expire(self) -> None:
    """Delete old checkpoints, only behind `keep` others.

    Two of those are verified to the last byte, and so is what is deleted: a
    damaged checkpoint stays for its owner to look at.
    """
    whole, verified, spared = 0, 0, self._spare()
    for step in sorted(steps(self._folder), reverse=True):
      folder = self._folder / str(step)
      deep = verified < MIN_KEEP or whole >= self._keep
      if folders.problems(folder, step, quick=not deep):
        continue
      verified += deep
      whole += 1
      if whole <= self._keep or step == spared:
        continue
      aside = self._folder / f"{_TEMPORARY}expired-{step}"
      os.rename(folder, aside)
      folders.delete(aside)


def restore_sampling(
  folder: str | os.PathLike,
  mesh: Mesh | None = None,
  rule: sharding.Rule | None = None,
  shapes: state_lib.State | None = None,
  average: bool = True,
  step: int | None = None,
) -> Restored:
  """Restore what sampling needs, without knowing the optimiser.

  Args:
    folder: `<run>/checkpoints`; only read.
    mesh: all devices by default.
    rule: see `sharding.shardings`.
    shapes: gives `params` and `model_state` their structure and is checked;
      nested dicts without it.
    average: take the average as `params` where one was kept.
    step: of the checkpoint; None takes the newest good one.
  Returns:
    A state with the parameters to sample with in `params`, no `ema` and no
    `opt_state`.
  Raises:
    CheckpointError: no good checkpoint, or one of another model.
  """
  folder = pathlib.Path(folder).absolute()
  mesh = sharding.make_mesh() if mesh is None else mesh

  def restore(step):
    manifest = checkpoint_manifest.read(folder / str(step))
    saved = manifest["arrays"]
    source = "params"
    if average and trees.select(saved, "ema"):
      source = "ema"
    parts = {}
    for part, prefix in (("params", source), ("model_state", "model_state")):
      like = None if shapes is None else getattr(shapes, prefix)
      description = trees.select(saved, prefix)
      if like is not None:
        _check(description, trees.describe(trees.flatten(like)), step)
      named = folders.load(
        folder / str(step), saved, mesh, rule, prefix + trees.SEPARATOR
      )
      parts[part] = trees.unflatten(trees.select(named, prefix), like)
    state = state_lib.State(
      step=np.int32(step),
      ema=None,
      opt_state=(),
      frozen=_restore_frozen(folder, manifest, mesh, rule),
      **parts,
    )
    return Restored(state, step, manifest["info"])

  restored = _restore_newest(folder, restore, step)
  if restored is None:
    raise CheckpointError(
      f"no checkpoint in {folder}: train first, or give the run's directory"
    )
  return restored


def _restore_newest(
  folder: pathlib.Path,
  restore: Callable[[int], Restored],
  only: int | None = None,
) -> Restored | None:
  """Try the steps from the newest on: the first good one, or None."""
  rejected = []
  for step in folders.wanted(folder, only):
    problems = folders.agreed_problems(folder / str(step), step)
    if problems:
      rejected.append((step, problems))
      continue
    try:
      restored = restore(step)
    except folders.Damaged as error:
      rejected.append((step, [str(error)]))
      continue
    for bad, why in rejected:
      _LOG.warning(
        "checkpoint %d is damaged and was not used: %s. Using step %d "
        "instead. The damaged folder %s was left as it is.",
        *(bad, folders.summary(why), step, folder / str(bad)),
      )
    return restored
  if not rejected:
    return None
  raise folders.rejection(folder, rejected, only)


def _restore(folder, step, shapes, mesh, rule, frozen) -> Restored:
  """Load one verified checkpoint as a whole state."""
  manifest = checkpoint_manifest.read(folder / str(step))
  trained = shapes.replace(frozen={})
  _check(manifest["arrays"], trees.describe(trees.flatten(trained)), step)
  named = folders.load(folder / str(step), manifest["arrays"], mesh, rule)
  state = trees.unflatten(named, trained)
  if frozen is None:
    frozen = _restore_frozen(folder, manifest, mesh, rule, shapes.frozen)
  elif _fingerprint(frozen)[0] != manifest["frozen"]:
    raise CheckpointError(
      f"the frozen arrays (tokenizer, ...) are not those of {folder}: they "
      f"have fingerprint {_fingerprint(frozen)[0]}, the run "
      f"{manifest['frozen']}. Use the ones it began with"
    )
  return Restored(state.replace(frozen=frozen), step, manifest["info"])


def _restore_frozen(folder, manifest, mesh, rule, like=None) -> Any:
  """Load the frozen arrays of a checkpoint, as nested dicts or like `like`."""
  like = like if jax.tree.leaves(like) else None
  if manifest["frozen"] is None:
    if like is not None:
      _check({}, trees.describe(trees.flatten(like)), "frozen")
    return {}
  source = folder / f"frozen-{manifest['frozen']}"
  problems = folders.agreed_problems(source)
  if problems:
    raise FrozenDamagedError(
      f"the frozen arrays in {source} are damaged: "
      f"{folders.summary(problems)}. Restore the folder from a copy"
    )
  saved = checkpoint_manifest.read(source)["arrays"]
  if like is not None:
    _check(saved, trees.describe(trees.flatten(like)), "frozen")
  return trees.unflatten(folders.load(source, saved, mesh, rule), like)


def _fingerprint(frozen: Any) -> tuple[str | None, dict[str, Any]]:
  """Identify frozen arrays: (fingerprint, None without any; description)."""
  named = trees.flatten(frozen)
  sums, _ = trees.checksums(named)
  content = folders.content(named, sums)
  return (trees.fingerprint(content, sums) if named else None), content


def _check(saved: Mapping, wanted: Mapping, what: int | str) -> None:
  """Raise CheckpointError unless shapes and dtypes agree."""
  lines = trees.difference(saved, wanted)
  if lines:
    raise CheckpointError(
      f"checkpoint {what} is of another model:\n  "
      + "\n  ".join(lines)
      + "\nUse the config the run began with, or a new directory"
    )
