"""A run of VQGAN through launch: processes, resuming, export, usage."""

import argparse
import json

import jax
import numpy as np
import pytest

from evaluation import report
from launch import (
  code_usage,
  datasets,
  evaluate,
  evaluators,
  export,
  first_stages,
  flags,
  reconstruction_scores,
  run_scores,
  score_job,
  scores,
  train,
)
from tests.evaluation import tiny_network
from tests.launch import processes, tiny_stage
from training import checkpoint_manifest, rundir
from weights import download, lpips

_TRAIN = "import sys; from launch import train; sys.exit(train.main())"
_TOKENIZE = "import sys; from launch import tokenize; sys.exit(tokenize.main())"


def _fields(images, **more):
  """Overrides of configs/vqgan_scenes.py:tiny, smaller still."""
  fields = {
    **tiny_stage.FIELDS,
    "data.dir": str(images),
    "data.zoom": "1",
    "quantizer.kl_weight": "0.5",  # which this quantizer does not read
    "adversary.start": "1",
    "optimizer.decay_steps": "4",
    "train.num_steps": "4",
    "train.log_every": "1",
    "train.checkpoint_every": "2",
    "eval.every": "0",
    "sample.every": "0",
  }
  return list({**fields, **more}.items())


def _config(images, **more):
  return flags.load("configs/vqgan_scenes.py:tiny", _fields(images, **more))


def _arrays(workdir, step=4):
  """Shapes and checksums of all arrays of a checkpoint, by name."""
  folder = rundir.RunDirectory(workdir).checkpoints / str(step)
  return checkpoint_manifest.read(folder)["arrays"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  """An `.npz` of 16 training and 8 validation pictures."""
  return tiny_stage.write_smooth(
    tmp_path_factory.mktemp("images") / "images.npz"
  )


@pytest.fixture(scope="module")
def workdir(images, tmp_path_factory):
  """A run of four steps, with a discriminator from the second on."""
  folder = tmp_path_factory.mktemp("run") / "run"
  finished = train.train(_config(images), folder, write_tensorboard=False)
  assert finished.reason == "completed"
  return folder


def test_resumed_run_has_the_same_players_and_moments(
  images, workdir, tmp_path
):
  half = _config(images, **{"train.num_steps": "2"})
  for config in (half, _config(images)):
    train.train(config, tmp_path, accept_changes=True, write_tensorboard=False)
  found, expected = _arrays(tmp_path), _arrays(workdir)
  assert found == expected
  moments = [name for name in found if name.startswith("opt_state/")]
  assert any("generator" in name for name in moments)
  assert any("discriminator" in name for name in moments)
  assert _arrays(tmp_path, 2) != expected


def test_a_run_says_what_it_does_not_read(workdir):
  log = (workdir / "log.txt").read_text("utf-8")
  line = "quantizer.kl_weight 0.5 has no effect while quantizer.name is"
  assert log.count(line) == 1


def test_exported_first_stage_is_the_autoencoder_alone(workdir, tmp_path):
  assert export.main([f"--workdir={workdir}", f"--out={tmp_path / 'x'}"]) == 0
  exported = first_stages.load(str(tmp_path / "x"))
  from_run = first_stages.load(str(workdir))
  assert exported.fingerprint() == from_run.fingerprint()
  assert not any("discriminator" in name for name in exported.arrays)
  coder = first_stages.make_tokenizer(exported.config, (16, 16))
  assert coder.num_codes == 16 and coder.grid == (8, 8)


def test_usage_counts_every_code_of_the_split_once(workdir):
  job = evaluate.open_job(workdir)
  run = job.run
  batches = datasets.eval_batches(
    run.config, run.adapter, run.measured, job.source, job.mesh
  )
  found = code_usage.measure(run.task, job.state, batches)
  coder = first_stages.load(str(workdir))
  made = first_stages.make_tokenizer(coder.config, (16, 16))
  rows = np.stack([x["image"] for x in job.source.read(np.arange(8))])
  codes = np.asarray(jax.jit(made.encode)(coder.params, rows))
  counts = np.bincount(codes.ravel(), minlength=16)
  p = counts[counts > 0] / counts.sum()
  assert found["codes_used"] == len(p)
  assert found["codes_unused"] == 16 - len(p)
  perplexity = np.exp(-(p * np.log(p)).sum())
  assert found["codes_perplexity"] == pytest.approx(perplexity, rel=1e-4)


@pytest.mark.parametrize("scored", [False, True])
def test_the_scheduled_evaluation_counts_the_codes_of_its_images(
  images, tmp_path, monkeypatch, scored
):
  make = lambda source, mode: tiny_network.make(source, mode)
  monkeypatch.setattr(scores, "open_network", make)
  fields = {"eval.every": "2", "eval.num_examples": "7", "eval.batch_size": "8"}
  fields |= {"train.num_steps": "2", "adversary.weight": "0"}
  if scored:
    fields |= {"eval.scores.every": "2", "eval.scores.num": "3"}
    fields |= {"eval.scores.metrics": "psnr"}
    fields |= {"eval.scores.inception": "random:0"}
  train.train(_config(images, **fields), tmp_path, write_tensorboard=False)
  lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
  names = [f"codes_{x}" for x in ("used", "unused", "perplexity")]
  (found,) = (line for line in lines if "eval/codes_used" in line)
  job = evaluate.open_job(tmp_path, limit=7)
  run = job.run
  batches = datasets.eval_batches(
    run.config, run.adapter, run.measured, job.source, job.mesh, job.limit
  )
  expected = code_usage.measure(run.task, job.state, batches)
  assert {x: found[f"eval/{x}"] for x in names} == pytest.approx(expected)
  assert "eval/psnr_db_per_image" in found
  assert any("eval/psnr" in line for line in lines) == scored


def test_the_scheduled_evaluation_encodes_a_batch_once(workdir, monkeypatch):
  job = evaluate.open_job(workdir)
  run, key = job.run, jax.random.key(0)
  (batch,) = datasets.eval_batches(
    run.config, run.adapter, run.measured, job.source, job.mesh
  )

  def measure(programs):
    found = [x.lower(job.state, batch, key).compile() for x in programs]
    return sum(x.cost_analysis()["flops"] for x in found)

  alone = measure([jax.jit(run.task.eval_step)])
  encoder = measure([jax.jit(lambda x, y, _: run.task.count_codes(x, y))])
  compiled = []
  jit = lambda *x, **y: compiled.append(make(*x, **y)) or compiled[-1]
  make = jax.jit
  monkeypatch.setattr(jax, "jit", jit)
  evaluator = evaluators.Likelihood(
    run.task, run.adapter, lambda: [batch], key, 1
  )
  assert "eval/codes_used" in evaluator.run(job.state, 4).scalars
  monkeypatch.undo()
  ours = [x for x in compiled if "launch" in x.__wrapped__.__module__]
  assert alone < measure(ours) < alone + encoder / 2


def test_reconstructions_are_scored_with_the_use_of_codes(workdir, monkeypatch):
  make = lambda source, mode: tiny_network.make(source, mode)
  monkeypatch.setattr(scores, "open_network", make)
  command = [f"--workdir={workdir}", "--metrics=reconstruction"]
  assert evaluate.main([*command, "--inception=random:0"]) == 0
  path = workdir / "eval" / "4" / "reconstruction-adm-random-0.json"
  assert "random features, so without LPIPS" in report.read(path)["notes"]
  found = report.read(path)["scores"]
  usage = {"codes_used", "codes_unused", "codes_perplexity"}
  distance = "unofficial_rfrechet_adm_8"
  assert set(found) == usage | {distance, "psnr", "ssim", "edges"}
  assert found["codes_used"] + found["codes_unused"] == 16
  assert 1 <= found["codes_perplexity"] <= found["codes_used"]
  assert found[distance] > 0 and 0 < found["psnr"] < 60


def test_lpips_is_looked_for_before_a_split_is_encoded(
  workdir, monkeypatch, capsys
):
  def load(net):
    raise download.WeightsMissing(f"put {net} there")

  official = tiny_network.make("6726825d")
  monkeypatch.setattr(scores, "open_network", lambda *_: official)
  monkeypatch.setattr(lpips, "load", load)
  monkeypatch.setattr(code_usage, "measure", None)
  # With samples, it is missed before they are drawn.
  monkeypatch.setattr(run_scores, "score_samples", None)
  command = [f"--workdir={workdir}", "--metrics=fid,reconstruction"]
  assert evaluate.main(command) == 1
  error = capsys.readouterr().err
  assert "put alex there" in error and error.count("\n") == 1
  opened = evaluate.open_job(workdir)
  options = argparse.Namespace(size=0, no_average=False, batch=8)
  job = score_job.Job(
    opened.run, opened.state, 4, opened.source, official, options
  )
  with pytest.raises(download.WeightsMissing):
    reconstruction_scores.reconstruct(job)


@pytest.mark.slow
def test_two_processes_have_the_statistics_and_codes_of_one(images, tmp_path):
  # More codes than are used, so that some restart.
  more = {"quantizer.num_codes": "64", "quantizer.dead_after": "1"}
  fields = _fields(images, **more)
  overrides = [f"--config.{name}={value}" for name, value in fields]
  command = ["--config=configs/vqgan_scenes.py:tiny", *overrides]
  for name, start in (("one", processes.alone), ("two", processes.pair)):
    run = tmp_path / name
    start(_TRAIN, [*command, f"--workdir={run}", "--no_tensorboard"])
    start(
      _TOKENIZE,
      [
        f"--workdir={tmp_path / 'one'}",
        f"--out={tmp_path / name / 'codes'}",
        "--shard=5",
        "--batch=2",
        "--flips",
        "--used_only",
      ],
    )
  one, two = (first_stages.runs.open_run(tmp_path / x) for x in ("one", "two"))
  states = [
    run.restore(evaluate.sharding.make_mesh({"data": 1}, jax.devices()[:1]))
    for run in (one, two)
  ]
  stats = [x.state.model_state["discriminator"]["batch_stats"] for x in states]
  for left, right in zip(*map(jax.tree.leaves, stats)):
    np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6)
  assert np.abs(jax.tree.leaves(stats[0])[0]).max() > 0
  books = [x.state.params["generator"]["quantizer"] for x in states]
  counters = [x.state.model_state["quantizer"] for x in states]
  for left, right in (books, counters):
    for name in left:
      np.testing.assert_allclose(
        left[name], right[name], rtol=1e-4, atol=1e-5, err_msg=name
      )
  assert counters[0].keys() == {"counts", "idle", "sums"}
  assert counters[0]["idle"].max() > 0
  with np.load(images) as held:
    pictures = np.concatenate([held["train_images"], held["validation_images"]])
  codes = []
  for name in ("one", "two"):
    stage = first_stages.load(str(tmp_path / name))
    coder = first_stages.make_tokenizer(stage.config, (16, 16))
    codes.append(np.asarray(jax.jit(coder.encode)(stage.params, pictures)))
  np.testing.assert_array_equal(*codes)
  assert len(np.unique(codes[0])) > 8
  files = [
    {
      path.relative_to(tmp_path / name): path.read_bytes()
      for path in (tmp_path / name / "codes").rglob("*")
      if path.is_file()
    }
    for name in ("one", "two")
  ]
  assert files[0] == files[1] and len(files[0]) > 8
