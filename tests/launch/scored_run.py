"""A trained toy run, and a network of a few operations in Inception's place."""

import os

from launch import scores, tasks, train
from tests.evaluation import tiny_network
from tests.launch import toy

TOY = os.path.abspath(toy.__file__)


def make(tmp_path, monkeypatch, *more):
  """Trains four steps with checkpoints of 2 and 4; returns the directory."""
  monkeypatch.setitem(tasks.ADAPTERS, "toy", "tests.launch.toy")
  monkeypatch.setattr(
    scores,
    "open_network",
    lambda source, mode: tiny_network.make(source or "6726825d", mode),
  )
  data = toy.write_data(tmp_path / "data.npz")
  flags = [f"--config={TOY}:{data}", f"--workdir={tmp_path / 'run'}"]
  flags += ["--no_tensorboard", "--config.train.num_steps=4"]
  flags += ["--config.train.checkpoint_every=2", *more]
  assert train.main(flags) == 0
  return tmp_path / "run"
