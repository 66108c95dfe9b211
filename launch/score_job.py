"""One checkpoint of a run that is scored."""

import argparse
import dataclasses
from pathlib import Path

from data import source as source_lib
from evaluation import features
from launch import runs
from training import state as state_lib


@dataclasses.dataclass(frozen=True)
class Job:
  """One checkpoint to score.

  Attributes:
    run: opened.
    state: restored, with the parameters to sample with.
    step: of the checkpoint.
    source: the split that samples are compared with.
    net: Inception.
    args: of the command.
  """

  run: runs.Run
  state: state_lib.State
  step: int
  source: source_lib.Source
  net: features.Network
  args: argparse.Namespace

  @property
  def folder(self) -> Path:
    """Where this checkpoint's results go."""
    return folder(self.run.workdir, self.step)


def folder(workdir: Path, step: int) -> Path:
  """Returns where the results of a run's checkpoint go."""
  return workdir / "eval" / str(step)
