"""Reconstructions of what is no picture in colour, from the command line."""

import json

import jax
import numpy as np
import pytest

from evaluation import pixels as pixels_lib
from evaluation import report
from launch import datasets, evaluate, flags, runs, scores, train
from tests import scenes_data
from training import sharding

_SMALL = {
  **{"model.channels": "4", "model.z_channels": "4", "model.num_blocks": "0"},
  **{"model.multipliers": "(1, 1)", "loss.perceptual": "0"},
  **{"quantizer.num_codes": "16", "quantizer.width": "3"},
  **{"adversary.weight": "0", "data.num_measured": "16"},
  **{"data.size": "(32, 32)", "data.zoom": "1"},
  **{"train.num_steps": "2", "train.log_every": "1"},
  **{"train.checkpoint_every": "2", "eval.every": "0", "sample.every": "0"},
}
KINDS = {
  "grey": {"data.channels": "1"},
  "depth": {"data.target": "depth"},
  "label maps": {"data.target": "segmentation", "data.num_labels": "25"},
}


@pytest.fixture(scope="module", params=KINDS)
def run(request, tmp_path_factory):
  """Return the kind, and a run of two steps that scores itself once."""
  folder = tmp_path_factory.mktemp("run") / "run"
  fields = {**_SMALL, **scenes_data.fields(), **KINDS[request.param]}
  fields |= {"eval.scores.every": "2", "eval.scores.num": "4"}
  fields |= {"eval.scores.metrics": "fid,psnr,ssim,edges"}
  config = flags.load("configs/vqgan_scenes.py:tiny", list(fields.items()))
  train.train(config, folder, write_tensorboard=False)
  return request.param, folder


@pytest.fixture
def offline(monkeypatch):
  """There are no weights of a network at hand."""

  def missing(*args):
    raise AssertionError(f"no network should be opened: {args}")

  monkeypatch.setattr(scores, "open_network", missing)


def _rows(folder):
  """Return the run's task, its state and a batch of the whole split."""
  opened = runs.open_run(folder)
  mesh = sharding.make_mesh({"data": 1}, jax.local_devices()[:1])
  source = datasets.open_source(opened.config, "validation")
  batches = datasets.eval_batches(
    opened.config, opened.adapter, opened.measured, source, mesh
  )
  host = [jax.device_get(batch) for batch in batches]
  real = [batch["mask"] for batch in host]
  (name,) = {"image", "segmentation"} & set(host[0])
  rows = np.concatenate([x[name][keep] for x, keep in zip(host, real)])
  return opened.task, opened.restore(mesh).state, {name: rows}


def test_all_that_needs_no_colour_is_given(run, offline, capsys):
  kind, folder = run
  command = [f"--workdir={folder}", "--metrics=reconstruction"]
  assert evaluate.main(command) == 0
  found = report.read(folder / "eval" / "2" / "reconstruction-none.json")
  values = found["scores"]
  assert found["num_samples"] == 16 and found["comparable"]
  usage = {f"codes_{x}" for x in ("used", "unused", "perplexity")}
  errors = {"accuracy", "nats_per_label", "quantization_error"}
  errors = errors if kind == "label maps" else {"psnr", "ssim", "edges"}
  assert set(values) == usage | errors
  assert values["codes_used"] + values["codes_unused"] == 16
  assert values["codes_used"] >= values["codes_perplexity"] >= 1
  (note, *more) = found["notes"]
  left_out = "fid, lpips"
  if kind == "label maps":
    left_out = "fid, psnr, ssim, lpips, edges"
  assert note.endswith(f"so without {left_out}")
  assert bool(more) == (kind == "depth")
  task, state, batch = _rows(folder)
  assert len(next(iter(batch.values()))) == 16
  pixels = task.pixels(batch)
  made = task.apply(state.sampling_params["generator"], pixels)[0]
  if kind == "label maps":
    right = np.argmax(np.asarray(made), -1) == batch["segmentation"]
    assert values["accuracy"] == pytest.approx(right.mean(), abs=1e-3)
  else:
    made, pixels = np.clip(np.asarray(made), -1, 1), np.asarray(pixels)
    error = np.mean((made - pixels) ** 2, (1, 2, 3))
    expected = np.mean(10 * np.log10(4 / error))
    assert values["psnr"] == pytest.approx(expected, abs=0.05)
    energies = [
      pixels_lib.laplacian_energy(np.asarray(task.picture(x))).mean()
      for x in (made, pixels)
    ]
    expected = energies[0] / energies[1]
    assert values["edges"] == pytest.approx(expected, rel=1e-2)
  lines = map(json.loads, (folder / "metrics.jsonl").open())
  (scored,) = (line for line in lines if "eval/codes_used" in line)
  assert scored["step"] == 2
  assert {f"eval/{name}" for name in errors} <= set(scored)
  if kind == "label maps":
    assert evaluate.main([*command, "--size=16"]) == 1
    assert "label maps are not resized" in capsys.readouterr().err
