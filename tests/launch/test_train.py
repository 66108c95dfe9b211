import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from launch import runs, tasks, train
from tests import shared
from tests.launch import toy
from training import sharding, tensorboard

TOY = os.path.abspath(toy.__file__)


@pytest.fixture(autouse=True)
def toy_task(monkeypatch):
  monkeypatch.setitem(tasks.ADAPTERS, "toy", "tests.launch.toy")
  # TensorFlow takes long to import.
  monkeypatch.setattr(tensorboard, "make", lambda _: None)


@pytest.fixture
def config_flag(tmp_path):
  return f"--config={TOY}:{toy.write_data(tmp_path / 'data.npz')}"


def _metrics(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  keep = ("step", "train/loss", "train/ids", "eval/bits_per_image")
  return [
    {name: x for name, x in json.loads(line).items() if name in keep}
    for line in lines
  ]


def test_a_run_fills_its_directory(config_flag, tmp_path, capsys):
  workdir = tmp_path / "run"
  assert train.main([config_flag, f"--workdir={workdir}"]) == 0
  assert "finished at step 12" in capsys.readouterr().out
  status = json.loads((workdir / "status.json").read_text())
  assert status["state"] == "completed" and status["step"] == 12
  losses = {
    x["step"]: x["train/loss"] for x in _metrics(workdir) if "train/loss" in x
  }
  assert losses[12] < losses[2]
  with np.load(workdir / "measured.npz") as measured:
    assert set(measured) == {"center", "num_classes"}
  evaluation = json.loads((workdir / "eval/12/eval.json").read_text())
  assert evaluation["likelihood"]["eval/bits_per_pixel"] > 0
  assert 0 < evaluation["samples"]["sample/grey"] < 255
  with Image.open(workdir / "samples/12.png") as grid:
    assert grid.size == (3 * 10 - 2, 2 * 10 - 2)
  assert json.loads((workdir / "env.json").read_text())["seed"] == 1


def test_an_interrupted_run_goes_on_exactly(config_flag, tmp_path):
  whole, halves = tmp_path / "whole", tmp_path / "halves"
  command = [config_flag, "--config.eval.every=3"]
  assert train.main([*command, f"--workdir={whole}"]) == 0
  slow = [*command, f"--workdir={halves}", "--no_tensorboard"]
  process = _start(slow, pause=0.3)
  _wait_for_step(process, halves, 4)
  process.send_signal(signal.SIGTERM)
  out, err = process.communicate(timeout=60)
  assert process.returncode == train.EXIT_RESUMABLE, err
  assert "the same command goes on" in out
  assert json.loads((halves / "status.json").read_text())["step"] < 12
  assert train.main([*command, f"--workdir={halves}"]) == 0
  assert _metrics(halves) == _metrics(whole)


_PAUSED = """
import sys, time
from launch import tasks, train
from tests.launch import toy
tasks.ADAPTERS["toy"] = "tests.launch.toy"
encode = toy.make_array_encode
def slow(*args):
  inner = encode(*args)
  def paused(record, seed):
    time.sleep({pause} / 8)
    return inner(record, seed)
  return paused if args[2] == "train" else inner
toy.make_array_encode = slow
sys.exit(train.main())
"""


def _start(arguments, pause):
  return subprocess.Popen(
    [sys.executable, "-c", _PAUSED.format(pause=pause), *arguments],
    cwd=shared.ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def _wait_for_step(process, workdir, step, timeout=60):
  deadline = time.monotonic() + timeout
  path = workdir / "metrics.jsonl"
  while time.monotonic() < deadline and process.poll() is None:
    if path.exists() and any(x["step"] >= step for x in _metrics(workdir)):
      return
    time.sleep(0.05)
  process.kill()
  raise AssertionError(process.communicate())


def test_another_config_is_refused_with_the_difference(
  config_flag, tmp_path, capsys
):
  command = [config_flag, f"--workdir={tmp_path / 'run'}"]
  short = "--config.train.num_steps=4"
  assert train.main([*command, short]) == 0
  assert train.main([*command, short, "--config.model.width=5"]) == 1
  error = capsys.readouterr().err.splitlines()[-1]
  assert "model.width: 4 -> 5" in error
  assert error.endswith("--config.model.width=5 --accept_changes")
  # A longer run of the same model is possible, if one insists.
  assert train.main([*command, "--accept_changes"]) == 0
  assert runs.load_config(tmp_path / "run").train.num_steps == 12


def test_other_data_is_refused(config_flag, tmp_path, capsys):
  workdir = tmp_path / "run"
  command = [config_flag, f"--workdir={workdir}", "--config.eval.every=0"]
  assert train.main([*command, "--config.train.num_steps=4"]) == 0
  path = tmp_path / "data.npz"
  with np.load(path) as archive:
    arrays = dict(archive)
  arrays["train_images"][0] ^= 1
  np.savez(path, **arrays)
  assert train.main([*command, "--config.train.num_steps=4"]) == 1
  assert "has changed since the run" in capsys.readouterr().err
  assert train.main([*command, "--accept_changes"]) == 0


def test_a_run_without_a_checkpoint_is_begun_anew(config_flag, tmp_path):
  tmp_path.joinpath("config.json").write_text('{"model": {"width": 9}}')
  tmp_path.joinpath("measured.npz").write_bytes(b"of another config")
  short = "--config.train.num_steps=2"
  assert train.main([config_flag, f"--workdir={tmp_path}", short]) == 0
  assert runs.load_config(tmp_path).model.width == 4


def test_a_cut_file_of_measurements_is_one_line(config_flag, tmp_path, capsys):
  command = [config_flag, f"--workdir={tmp_path}", "--config.eval.every=0"]
  assert train.main([*command, "--config.train.num_steps=2"]) == 0
  path = tmp_path / "measured.npz"
  path.write_bytes(path.read_bytes()[:100])
  capsys.readouterr()
  assert train.main([*command, "--config.train.num_steps=2"]) == 1
  assert "measured.npz cannot be read" in capsys.readouterr().err


def test_a_run_moves_between_meshes(config_flag, tmp_path):
  command = [config_flag, f"--workdir={tmp_path}", "--config.eval.every=0"]
  half = ["--config.train.num_steps=4", "--config.mesh.data=8"]
  assert train.main([*command, *half]) == 0
  rest = ["--config.mesh.data=2", "--config.mesh.fsdp=4"]
  assert train.main([*command, *rest, "--accept_changes"]) == 0
  steps = [x["step"] for x in _metrics(tmp_path) if "train/loss" in x]
  assert steps == [2, 4, 6, 8, 10, 12]


def test_a_run_can_be_opened_and_restored(config_flag, tmp_path):
  short = ["--config.train.num_steps=4", "--config.eval.every=0"]
  assert train.main([config_flag, f"--workdir={tmp_path}", *short]) == 0
  run = runs.open_run(tmp_path)
  assert run.config.is_locked and run.config.model.width == 4
  restored = run.restore(sharding.make_mesh())
  assert restored.step == 4
  assert restored.state.frozen["center"] == run.measured["center"]


def test_dry_run_needs_no_data(capsys, tmp_path):
  absent = f"--config={TOY}:/no/such/file.npz"
  assert train.main([absent, "--dry_run"]) == 0
  out = capsys.readouterr().out
  assert "model.width = 4" in out
  assert "16 parameters" in out
  assert "grey        float32[8]" in out
  assert "devices (fsdp)" in out


@pytest.mark.parametrize(
  "arguments, code, said",
  [
    ([], 1, "no readable .npz"),
    (["--config.data.source=array"], 1, "Did you mean arrays?"),
    (["--config.task=tow"], 1, "Did you mean toy?"),
    (["--config.train.batch_size=3"], 1, "must be a multiple of 8 devices"),
    (["--config.train.bach_size=8"], 2, "Did you mean --config.train.batch"),
    (["--config.platform=tpu"], 1, "found only cpu"),
    (["--config.mesh.data=3"], 1, "must multiply to the 8 devices"),
    (["--config.train.on_nan=ignore"], 1, "choose one of stop, skip"),
  ],
)
def test_mistakes_are_one_line_and_leave_nothing(
  arguments, code, said, tmp_path, capsys
):
  data = "/no/such/file.npz"
  if arguments:
    data = toy.write_data(tmp_path / "data.npz")
  workdir = tmp_path / "run"
  command = [f"--config={TOY}:{data}", f"--workdir={workdir}", *arguments]
  assert train.main(command) == code
  error = capsys.readouterr().err
  assert said in error and len(error.splitlines()) == 1
  assert not workdir.exists()


def test_workdir_is_needed(config_flag, capsys):
  assert train.main([config_flag]) == 2
  assert "--workdir=DIR is missing" in capsys.readouterr().err
