"""FID and the other scores from the command line, with a tiny network."""

import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from evaluation import pixels, reference, report
from launch import (
  evaluate,
  image_sources,
  score_pictures,
  scores,
  statistics,
  tasks,
  train,
)
from tests.evaluation import tiny_network
from tests.launch import toy
from weights import lpips

TOY = os.path.abspath(toy.__file__)
ROOT = Path(__file__).resolve().parents[2]
RANDOM = np.random.RandomState(0)
IMAGES = RANDOM.randint(0, 256, (30, 8, 8, 3), np.uint8)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
  def open_network(source, mode):
    return tiny_network.make(weights=source or "6726825d", mode=mode)

  monkeypatch.setattr(scores, "open_network", open_network)


@pytest.fixture
def workdir(tmp_path, monkeypatch):
  monkeypatch.setitem(tasks.ADAPTERS, "toy", "tests.launch.toy")
  data = toy.write_data(tmp_path / "data.npz")
  flags = [f"--config={TOY}:{data}", f"--workdir={tmp_path / 'run'}"]
  flags += ["--no_tensorboard", "--config.train.num_steps=4"]
  flags += ["--config.train.checkpoint_every=2"]
  assert train.main(flags) == 0
  return tmp_path / "run"


@pytest.fixture
def sets(tmp_path):
  np.savez(tmp_path / "a.npz", IMAGES)
  folder = tmp_path / "b"
  folder.mkdir()
  for i, image in enumerate(255 - IMAGES):
    Image.fromarray(image).save(folder / f"{i:02d}.png")
  return tmp_path / "a.npz", folder


def score(*arguments, out):
  assert evaluate.main([*arguments, f"--out={out}"]) == 0
  return report.read(out)


def test_two_sets_are_scored(sets, tmp_path, capsys):
  a, b = sets
  found = score(f"--samples={a}", f"--reference={b}", out=tmp_path / "s.json")
  assert {"fid_adm_30", "sfid_adm_30", "is_adm_30", "recall_adm_30"} <= set(
    found["scores"]
  )
  out = capsys.readouterr().out
  assert "fid_adm_30" in out and "not comparable" in out
  same = score(f"--samples={a}", f"--reference={a}", out=tmp_path / "t.json")
  assert same["scores"]["fid_adm_30"] < 1e-6
  assert same["scores"]["precision_adm_30"] == 1


def test_torch_fidelitys_inception_score_is_asked_for_by_name(sets, tmp_path):
  name = "is_torch_fidelity"
  found = score(f"--samples={sets[0]}", f"--metrics={name}", out=tmp_path / "s")
  assert set(found["scores"]) == {f"{name}_adm_30", f"{name}_std_adm_30"}


def test_statistics_stand_for_the_images(sets, tmp_path, capsys):
  a, b = sets
  out = tmp_path / "stats.npz"
  assert statistics.main([f"--images={b}", f"--out={out}"]) == 0
  assert "30 images of 8 x 8, adm" in capsys.readouterr().out
  metadata = reference.load(out).metadata
  assert metadata["count"] == 30 and metadata["weights"] == "6726825d"
  assert metadata["crop"] == "none" and metadata["revision"] is not None
  by_file = score(f"--samples={a}", f"--reference={out}", out=tmp_path / "1")
  direct = score(f"--samples={a}", f"--reference={b}", out=tmp_path / "2")
  assert by_file["scores"] == pytest.approx(direct["scores"], rel=1e-9)
  for found in (by_file, direct):
    assert found["num_reference"] == 30
    assert found["reference_metadata"]["digest"] == metadata["digest"]


def test_mixes_and_mistakes_are_one_line(sets, tmp_path, capsys):
  a, b = sets
  out = tmp_path / "stats.npz"
  assert statistics.main([f"--images={b}", f"--out={out}"]) == 0
  base = [f"--samples={a}", f"--reference={out}"]
  missing = f"--samples={tmp_path / 'no'}"
  for arguments, code, said in (
    ([*base, "--preprocess=clean"], 1, "preprocess is 'clean'"),
    ([*base, "--inception=random:0"], 1, "weights is 'random:0'"),
    ([*base, "--size=4"], 1, "size is [4, 4]"),
    ([*base, "--metrics=psnr"], 1, "compare pairs of images"),
    ([*base, "--metrics=fidd"], 2, "Did you mean fid"),
    ([*base, "--preprocess=cleen"], 2, "Did you mean clean"),
    ([*base, "--transform=gray"], 1, "Did you mean grey"),
    ([missing], 1, "is absent"),
    ([*base, "--dataset=lsun/bedrooms"], 2, "Did you mean lsun/bedroom"),
    ([f"--samples={a}", "--workdir=x"], 2, "give one of"),
    (["--workdir=x", "--metrics=fid,likelihood"], 2, "a call of its own"),
  ):
    capsys.readouterr()
    assert evaluate.main(arguments) == code, arguments
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1, error


def test_any_source_is_cropped_on_request(sets):
  a, b = sets
  for source in (a, b):
    images = image_sources.open_images(str(source), size=4)
    assert next(images.pieces(3)).shape == (3, 4, 4, 3)


def test_the_baselines_change_the_images(sets):
  a, _ = sets
  low = image_sources.open_images(str(a), transform="lowres8")
  grey = image_sources.open_images(str(a), transform="grey")
  low, grey = (
    np.concatenate([x for _, x in images.batches(7)]) for images in (low, grey)
  )
  assert (low == low[:, :1, :1]).all()
  np.testing.assert_allclose(low[:, 0, 0], IMAGES.mean((1, 2)), atol=0.51)
  assert (grey == grey[..., :1]).all()
  assert abs(grey[..., 0] - IMAGES @ [0.299, 0.587, 0.114]).max() < 0.51


def test_folders_of_many_sizes_are_cropped(tmp_path, capsys):
  for i, shape in enumerate(((8, 12), (20, 8), (9, 9))):
    image = RANDOM.randint(0, 256, (*shape, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / f"{i}.png")
  command = [f"--images={tmp_path}", f"--out={tmp_path / 's.npz'}"]
  assert statistics.main(command) == 1
  assert "one size" in capsys.readouterr().err
  assert statistics.main([*command, "--size=8"]) == 0
  metadata = reference.load(tmp_path / "s.npz").metadata
  assert metadata["size"] == [8, 8] and metadata["crop"] == "center 8"


def run_scores(workdir, *more):
  command = [f"--workdir={workdir}", "--metrics=fid,precision_recall"]
  command += ["--num_samples=20", "--inception=random:3", *more]
  assert evaluate.main(command) == 0
  return workdir / "eval" / "4" / "scores-20-adm-seed0.json"


def test_a_run_is_scored_against_its_training_split(workdir, capsys):
  found = report.read(run_scores(workdir))
  assert set(found["scores"]) == {
    "unofficial_frechet_adm_20",
    "unofficial_precision_adm_20",
    "unofficial_recall_adm_20",
  }
  assert "random weights (random:3)" in capsys.readouterr().out
  assert found["step"] == 4 and found["average"] and found["seed"] == 0
  assert found["reference_metadata"]["count"] == found["num_reference"] == 40
  assert found["labels"] == "as in the reference"
  # The run's data has no name that a paper reports.
  assert found["published"] == ""
  with Image.open(workdir / "samples" / "4-scored.png") as sheet:
    assert sheet.size == (8 * 10 - 2, 3 * 10 - 2)
  kept = list((workdir / "eval").glob("reference-train-*.npz"))
  assert len(kept) == 1
  before = kept[0].stat().st_mtime_ns
  again = report.read(run_scores(workdir))
  assert again["scores"] == found["scores"]
  assert kept[0].stat().st_mtime_ns == before


def test_an_older_checkpoint_is_scored_on_request(workdir, capsys):
  newest = report.read(run_scores(workdir))
  run_scores(workdir, "--step=2")
  folder = workdir / "eval" / "2"
  older = report.read(folder / "scores-20-adm-seed0.json")
  assert older["step"] == 2 and older["scores"] != newest["scores"]
  assert (folder / "samples-20-adm-seed0" / "manifest.json").is_file()
  command = [f"--workdir={workdir}", "--metrics=fid", "--inception=random:3"]
  assert evaluate.main([*command, "--step=1"]) == 1
  assert "take one of 2, 4" in capsys.readouterr().err
  assert evaluate.main([*command, "--step=2", "--watch"]) == 2
  assert "without --watch" in capsys.readouterr().err


def test_samples_take_the_labels_of_the_reference(workdir):
  run_scores(workdir)
  folder = workdir / "eval" / "4" / "samples-20-adm-seed0"
  manifest = json.loads((folder / "manifest.json").read_text())
  assert manifest["identity"]["labels"] == "as in the reference"
  with np.load(workdir.parent / "data.npz") as data:
    expected = data["train_labels"][::2]
  found = np.concatenate(
    [np.load(part)["labels"] for part in sorted(folder.glob("part-*"))]
  )
  np.testing.assert_array_equal(found[:20], expected)


def test_watching_ends_with_the_run(workdir):
  path = run_scores(workdir, "--watch", "--poll=0.01")
  before = path.stat().st_mtime_ns
  run_scores(workdir, "--watch", "--poll=0.01")
  assert path.stat().st_mtime_ns == before


def test_watching_may_begin_before_the_run(workdir, monkeypatch, capsys):
  hidden = workdir.rename(workdir.with_name("later"))
  naps = []

  def sleep(seconds):
    naps.append(seconds)
    if len(naps) == 2:
      hidden.rename(workdir)

  clock = types.SimpleNamespace(sleep=sleep)
  monkeypatch.setattr("launch.run_scores.time", clock)
  run_scores(workdir, "--watch", "--poll=7")
  assert naps == [7, 7]
  assert capsys.readouterr().out.count("waiting for a run") == 1


def test_a_task_that_cannot_is_told_apart(workdir, capsys, monkeypatch):
  command = [f"--workdir={workdir}", "--metrics=reconstruction"]
  assert evaluate.main(command) == 1
  assert "toy does not reconstruct" in capsys.readouterr().err
  # The pictures that a first stage shows of itself are no samples.
  monkeypatch.delattr(toy.Toy, "sample")
  command = [f"--workdir={workdir}", "--metrics=fid", "--num_samples=4"]
  assert evaluate.main(command) == 1
  assert "toy has nothing to sample" in capsys.readouterr().err


def test_reconstructions_are_compared_with_their_own_crops(
  workdir, monkeypatch
):
  def reconstruct(self, state, batch):
    grey = jnp.clip(jnp.rint((batch["grey"] + 2.56) * 50), 0, 255)
    shape = (len(grey), 8, 8, 3)
    return jnp.broadcast_to(grey[:, None, None, None], shape).astype("uint8")

  monkeypatch.setattr(toy.Toy, "reconstruct", reconstruct, raising=False)
  command = [f"--workdir={workdir}", "--metrics=reconstruction"]
  assert evaluate.main([*command, "--inception=random:3", "--batch=8"]) == 0
  path = workdir / "eval" / "4" / "reconstruction-adm.json"
  found = report.read(path)
  assert set(found["scores"]) == {
    "unofficial_rfrechet_adm_13",
    "psnr",
  }
  with np.load(workdir.parent / "data.npz") as data:
    images = data["validation_images"]
  grey = np.rint(images.mean((1, 2, 3), keepdims=True))
  error = ((images - grey) ** 2).mean((1, 2, 3))
  expected = np.mean(10 * np.log10(255**2 / error))
  assert found["scores"]["psnr"] == pytest.approx(expected, abs=0.01)


def test_neighbours_and_classes_are_drawn(workdir):
  command = [f"--workdir={workdir}", "--metrics=nearest,per_class"]
  command += ["--num_samples=40", "--inception=random:3"]
  assert evaluate.main(command) == 0
  path = workdir / "eval" / "4" / "scores-40-adm-seed0.json"
  found = report.read(path)["scores"]
  assert found["classes"] == 4
  assert 0 <= found["class_recall_lowest"] <= found["class_recall_mean"] <= 1
  assert found["nearest_median"] > 0 and found["nearest_median_held_out"] > 0
  for name in ("nearest", "per-class"):
    assert (workdir / "samples" / f"4-{name}.png").stat().st_size > 1000


def test_neighbours_and_classes_come_from_the_whole_split(workdir, monkeypatch):
  monkeypatch.setattr(scores, "REFERENCE_IMAGES", 10)
  drawn = []
  monkeypatch.setattr(
    score_pictures.nearest, "figure", lambda *a: drawn.append(a[1])
  )
  scored = []
  score_classes = score_pictures.per_class.precision_recall
  monkeypatch.setattr(
    score_pictures.per_class,
    "precision_recall",
    lambda *a: scored.append(a[1]) or score_classes(*a, k=1),
  )
  command = [f"--workdir={workdir}", "--metrics=nearest,per_class"]
  command += ["--num_samples=40", "--inception=random:3"]
  assert evaluate.main(command) == 0
  with np.load(workdir.parent / "data.npz") as data:
    images, labels = data["train_images"], data["train_labels"]
  np.testing.assert_array_equal(scored[0], labels[::4])
  spaced = {image.tobytes() for image in images[::4]}
  assert {x.tobytes() for row in drawn[0] for x in row} <= spaced
  result = workdir / "eval" / "4" / "scores-40-adm-seed0.json"
  notes = report.read(result)["notes"]
  assert "nearest, per_class: 10 of 40 reference images, evenly spaced" in notes


KILLED = """
import sys, time
import numpy as np
from evaluation import generation
from launch import evaluate, scores, tasks
from tests.evaluation import tiny_network
tasks.ADAPTERS["toy"] = "tests.launch.toy"
scores.open_network = lambda s, m: tiny_network.make(weights=s, mode=m)
write = generation._write_part
def slow(path, arrays):
  write(path, arrays)
  print(path.name, flush=True)
  time.sleep(0.2)
generation._write_part = slow
sys.exit(evaluate.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_to_the_same_result(workdir):
  whole = report.read(run_scores(workdir))
  folder = workdir / "eval" / "4"
  samples = folder / "samples-20-adm-seed0"
  parts = {p.name: p.read_bytes() for p in samples.glob("part-*")}
  for path in samples.iterdir():
    path.unlink()
  (folder / "scores-20-adm-seed0.json").unlink()
  command = [sys.executable, "-c", KILLED, f"--workdir={workdir}"]
  command += ["--metrics=fid,precision_recall", "--num_samples=20"]
  command += ["--inception=random:3"]
  job = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
  assert job.stdout.readline().startswith("part-")
  job.send_signal(signal.SIGKILL)
  job.wait(60)
  assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
  found = report.read(folder / "scores-20-adm-seed0.json")
  assert found["scores"] == whole["scores"]
  assert {p.name: p.read_bytes() for p in samples.glob("part-*")} == parts


def test_the_network_of_lpips_is_named(monkeypatch):
  monkeypatch.setattr(lpips, "load", lpips.random)
  sums = scores.PairSums(["lpips"])
  pair = RANDOM.randint(0, 256, (2, 1, 64, 64, 3), np.uint8)
  sums.add(*pair)
  expected = pixels.lpips(lpips.random("alex"), *pair, "alex")
  assert sums.means() == {"lpips_alex": pytest.approx(float(expected[0]))}
  assert report.better("lpips_alex") == "lower"
