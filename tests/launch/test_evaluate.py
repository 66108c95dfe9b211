import dataclasses
import json
import os
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from evaluation import jpeg
from launch import evaluate, tasks, train
from tests.launch import toy

TOY = os.path.abspath(toy.__file__)


@pytest.fixture
def data(tmp_path):
  return toy.write_data(tmp_path / "data.npz")


@pytest.fixture
def workdir(tmp_path, monkeypatch, data):
  monkeypatch.setitem(tasks.ADAPTERS, "toy", "tests.launch.toy")
  flags = [f"--config={TOY}:{data}", f"--workdir={tmp_path / 'run'}"]
  flags.append("--no_tensorboard")
  flags += ["--config.train.num_steps=4", "--config.train.checkpoint_every=2"]
  assert train.main(flags) == 0
  return tmp_path / "run"


def test_likelihood_of_the_whole_split(workdir, data, capsys):
  assert evaluate.main([f"--workdir={workdir}", "--metrics=likelihood"]) == 0
  out = capsys.readouterr().out
  assert "likelihood of step 4 on 13 of 13" in out
  assert "not comparable" not in out
  path = workdir / "eval" / "4" / "likelihood-validation.json"
  content = json.loads(path.read_text())
  # The run's own evaluator saw the same examples and the same parameters.
  own = json.loads((workdir / "eval" / "4" / "eval.json").read_text())
  values = content["values"]
  expected = own["likelihood"]["eval/bits_per_pixel"]
  assert values["bits_per_pixel"] == pytest.approx(expected, rel=1e-6)
  assert content["comparable"] and content["average"]
  assert content["config"]["task"] == "toy"
  assert content["environment"]["versions"]["jax"]
  with np.load(data) as archive:
    bits = [jpeg.scan_bits(x, 75) for x in archive["validation_images"]]
  assert values["jpeg_bits_per_image"] == pytest.approx(np.mean(bits))


def test_dealt_labels_cost_only_those_who_read_them(workdir):
  job = evaluate.open_job(workdir)
  told = lambda job: evaluate.METRICS["likelihood"](job)["bits_per_pixel"]
  dealt = lambda job: evaluate.rates_of_dealt_labels(job)["bits_per_pixel"]
  assert dealt(job) != pytest.approx(told(job), rel=1e-3)
  table = job.state.sampling_params["table"]
  blind = jnp.broadcast_to(table.mean(axis=0, keepdims=True), table.shape)
  state = job.state.replace(params={"table": blind})
  job = dataclasses.replace(job, state=state)
  assert dealt(job) == pytest.approx(told(job), rel=1e-6)


def test_data_may_have_moved_and_batches_differ(workdir, data, capsys):
  command = [f"--workdir={workdir}", "--metrics=likelihood"]
  assert evaluate.main(command) == 0
  path = workdir / "eval" / "4" / "likelihood-validation.json"
  before = json.loads(path.read_text())
  moved = data.rename(data.with_name("moved.npz"))
  assert evaluate.main([*command, f"--data_dir={moved}", "--batch=8"]) == 0
  after = json.loads(path.read_text())
  assert after["config"]["eval"]["batch_size"] == 8
  assert after["values"]["bits_per_pixel"] == pytest.approx(
    before["values"]["bits_per_pixel"], rel=1e-5
  )


def test_the_best_checkpoint_is_measured_on_request(workdir, capsys):
  config = json.loads((workdir / "config.json").read_text())
  config["train"]["best"] = "eval/bits_per_pixel"
  (workdir / "config.json").write_text(json.dumps(config))
  for step, bits in ((2, 1.5), (4, 2.5)):
    path = workdir / "eval" / str(step) / "eval.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"likelihood": {"eval/bits_per_pixel": bits}}))
  for step, expected in (("best", 2), ("4", 4)):
    assert evaluate.main([f"--workdir={workdir}", f"--step={step}"]) == 0
    path = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(pathlib.Path(path).read_text())["step"] == expected


def test_an_older_checkpoint_is_measured_on_request(workdir, capsys):
  values = []
  for more in ([], ["--step=2"]):
    assert evaluate.main([f"--workdir={workdir}", *more]) == 0
    path = capsys.readouterr().out.splitlines()[-1]
    with open(path) as file:
      values.append(json.load(file))
  assert [x["step"] for x in values] == [4, 2]
  assert f"{os.sep}2{os.sep}" in path
  # It had learnt less.
  newer, older = (x["values"]["bits_per_pixel"] for x in values)
  assert older > newer


def test_a_part_says_that_it_is_one(workdir, capsys):
  command = [f"--workdir={workdir}", "--num_examples=5", "--split=train"]
  assert evaluate.main([*command, "--no_average"]) == 0
  assert "5 of 40" in (out := capsys.readouterr().out)
  assert "not comparable" in out
  path = workdir / "eval" / "4" / "likelihood-train.json"
  content = json.loads(path.read_text())
  assert not content["comparable"] and not content["average"]


def test_mistakes_are_one_line(workdir, tmp_path, capsys):
  for arguments, code, said in (
    ([f"--workdir={workdir}", "--metrics=liklihood"], 2, "Did you mean like"),
    ([f"--workdir={tmp_path / 'nowhere'}"], 1, "holds no run"),
    ([f"--workdir={workdir}", "--split=test"], 1, "must hold test_images"),
    ([f"--workdir={workdir}", "--step=3"], 1, "take one of 2, 4"),
    ([], 2, "--workdir"),
  ):
    assert evaluate.main(arguments) == code
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
