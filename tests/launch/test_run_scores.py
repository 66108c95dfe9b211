"""Scores of a run's checkpoints from the command line, with a tiny network."""

import json
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from evaluation import features, generation, report
from launch import evaluate, score_pictures, scores, statistics
from launch import run_scores as run_scores_module
from tests.launch import scored_run, toy

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def workdir(tmp_path, monkeypatch):
  return scored_run.make(tmp_path, monkeypatch)


def run_scores(workdir, *more):
  command = [f"--workdir={workdir}", "--metrics=fid,precision_recall"]
  command += ["--num_samples=20", "--inception=random:3", *more]
  assert evaluate.main(command) == 0
  return workdir / "eval" / "4" / "scores-20-adm-seed0-random-3.json"


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
  assert found["labels"] == "as in the training split"
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


def test_a_reference_that_does_not_fit_is_refused_early(workdir, capsys):
  images = np.zeros((9, 4, 4, 3), np.uint8)
  np.savez(workdir.parent / "small.npz", images)
  command = [f"--images={workdir.parent / 'small.npz'}", "--inception=random:3"]
  for mode in ("clean", "adm"):
    out = workdir.parent / f"{mode}.npz"
    assert (
      statistics.main([*command, f"--out={out}", f"--preprocess={mode}"]) == 0
    )
  command = [f"--workdir={workdir}", "--metrics=fid", "--num_samples=20"]
  command += ["--inception=random:3"]
  capsys.readouterr()
  assert (
    evaluate.main([*command, f"--reference={workdir.parent}/clean.npz"]) == 1
  )
  assert "made with preprocess clean, not adm" in capsys.readouterr().err
  assert not list((workdir / "eval").glob("4/samples*"))
  # A size shows in the samples; their features are not extracted.
  command.append(f"--reference={workdir.parent}/adm.npz")
  extracted = []
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(features, "extract", lambda *_, **__: extracted.append(1))
    assert evaluate.main(command) == 1
  assert "size [4, 4], not [8, 8]: make both sets" in capsys.readouterr().err
  assert not extracted


def test_samples_may_be_deleted_once_they_have_scores(workdir):
  path = run_scores(workdir, "--discard_samples")
  first = report.read(path)
  assert not list((workdir / "eval").glob("*/samples*"))
  path.unlink()
  again = report.read(run_scores(workdir))
  assert again["scores"] == first["scores"]
  assert again["digest"] == first["digest"]
  assert len(list((workdir / "eval").glob("4/samples*"))) == 1


def test_a_kill_before_samples_are_deleted_is_made_good(workdir, monkeypatch):
  options = ("--watch", "--poll=0.01", "--discard_samples")
  command = [f"--workdir={workdir}", "--metrics=fid,precision_recall"]
  command += ["--num_samples=20", "--inception=random:3", *options]

  def killed(_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(generation, "delete", killed)
    assert evaluate.main(command) == 130
  folders = lambda: [x.parent.name for x in workdir.glob("eval/*/samples*")]
  assert folders() == ["2"]
  run_scores(workdir, "--step=4")  # of another job, that keeps them
  raw = run_scores(workdir, "--no_average").parent / "samples-seed0-raw"
  path = run_scores(workdir, *options)
  assert report.read(path)["step"] == 4
  assert list(workdir.glob("eval/*/samples*")) == [raw]


def test_an_older_checkpoint_is_scored_on_request(workdir, capsys):
  newest = report.read(run_scores(workdir))
  run_scores(workdir, "--step=2")
  folder = workdir / "eval" / "2"
  older = report.read(folder / "scores-20-adm-seed0-random-3.json")
  assert older["step"] == 2 and older["scores"] != newest["scores"]
  assert (folder / "samples-seed0" / "manifest.json").is_file()
  command = [f"--workdir={workdir}", "--metrics=fid", "--inception=random:3"]
  assert evaluate.main([*command, "--step=1"]) == 1
  assert "take one of 2, 4" in capsys.readouterr().err
  assert evaluate.main([*command, "--step=2", "--watch"]) == 2
  assert "without --watch" in capsys.readouterr().err


def test_samples_take_the_labels_of_the_reference(workdir):
  run_scores(workdir)
  folder = workdir / "eval" / "4" / "samples-seed0"
  manifest = json.loads((folder / "manifest.json").read_text())
  assert manifest["identity"]["labels"] == "as in the training split"
  with np.load(workdir.parent / "data.npz") as data:
    expected = data["train_labels"][np.arange(20) * 23 % 40]
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
  # Before the split is measured, which may take hours.
  assert not list((workdir / "eval").glob("reference-*"))


def test_classes_of_samples_without_labels_are_refused_early(workdir, capsys):
  config = json.loads((workdir / "config.json").read_text())
  config["model"]["num_classes"] = 0
  (workdir / "config.json").write_text(json.dumps(config))
  command = [f"--workdir={workdir}", "--metrics=per_class", "--num_samples=4"]
  assert evaluate.main(command) == 1
  assert "no labels: leave out per_class" in capsys.readouterr().err
  found = [path.name for path in (workdir / "eval").rglob("*")]
  assert found == ["4", "eval.json"]


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
  path = workdir / "eval" / "4" / "reconstruction-adm-random-3.json"
  found = report.read(path)
  assert set(found["scores"]) == {
    "unofficial_rfrechet_adm_13",
    "psnr",
    "edges",
  }
  with np.load(workdir.parent / "data.npz") as data:
    images = data["validation_images"]
  grey = np.rint(images.mean((1, 2, 3), keepdims=True))
  error = ((images - grey) ** 2).mean((1, 2, 3))
  expected = np.mean(10 * np.log10(255**2 / error))
  assert found["scores"]["psnr"] == pytest.approx(expected, abs=0.01)
  assert found["scores"]["edges"] == 0  # each is of one grey


def test_neighbours_and_classes_are_drawn(workdir):
  command = [f"--workdir={workdir}", "--metrics=nearest,per_class"]
  command += ["--num_samples=40", "--inception=random:3"]
  assert evaluate.main(command) == 0
  path = workdir / "eval" / "4" / "scores-40-adm-seed0-random-3.json"
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
  result = workdir / "eval" / "4" / "scores-40-adm-seed0-random-3.json"
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
  samples = folder / "samples-seed0"
  parts = {p.name: p.read_bytes() for p in samples.glob("part-*")}
  for path in samples.iterdir():
    path.unlink()
  (folder / "scores-20-adm-seed0-random-3.json").unlink()
  command = [sys.executable, "-c", KILLED, f"--workdir={workdir}"]
  command += ["--metrics=fid,precision_recall", "--num_samples=20"]
  command += ["--inception=random:3"]
  job = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
  assert job.stdout.readline().startswith("part-")
  job.send_signal(signal.SIGKILL)
  job.wait(60)
  assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
  found = report.read(folder / "scores-20-adm-seed0-random-3.json")
  assert found["scores"] == whole["scores"]
  assert {p.name: p.read_bytes() for p in samples.glob("part-*")} == parts


def test_watching_looks_before_it_restores(workdir, monkeypatch):
  run_scores(workdir, "--watch", "--poll=0.01")
  opened = []
  monkeypatch.setattr("launch.runs.open_run", opened.append)
  run_scores(workdir, "--watch", "--poll=0.01")
  assert opened == []  # everything has its scores


def test_watching_scores_every_checkpoint_oldest_first(workdir, monkeypatch):
  checkpoints = workdir / "checkpoints"
  seen = []
  score = run_scores_module.score_samples

  def scored(job, metrics):
    if not seen:
      # Another appears. A copy has not the step of its manifest: it is damaged.
      shutil.copytree(checkpoints / "2", checkpoints / "3")
    seen.append(job.step)
    return score(job, metrics)

  monkeypatch.setattr(run_scores_module, "score_samples", scored)
  run_scores(workdir, "--watch", "--poll=0.01")
  assert seen == [2, 4]
  name = "scores-20-adm-seed0-random-3.json"
  assert report.read(workdir / "eval" / "2" / name)["step"] == 2
  assert not (workdir / "eval" / "3").exists()


def test_watching_nothing_but_damage_fails(workdir, capsys):
  for step in (2, 4):
    manifest = workdir / "checkpoints" / str(step) / "manifest.json"
    manifest.write_text("{}")
  command = [f"--workdir={workdir}", "--metrics=fid", "--watch"]
  assert evaluate.main([*command, "--inception=random:3"]) == 1
  assert "damaged" in capsys.readouterr().err


def test_a_kill_before_tensorboard_is_made_good(workdir, monkeypatch):
  (workdir / "tensorboard").mkdir()
  written = []

  class Writer:
    def scalars(self, step, values):
      if not written:
        written.append("killed")
        raise KeyboardInterrupt
      written.append((step, sorted(values)))

    def close(self):
      pass

  monkeypatch.setattr("training.tensorboard.make", lambda _: Writer())
  command = [f"--workdir={workdir}", "--metrics=fid", "--num_samples=20"]
  command += ["--inception=random:3", "--watch", "--poll=0.01"]
  assert evaluate.main(command) == 130
  assert evaluate.main(command) == 0
  tag = ["eval/unofficial_frechet_adm_20"]
  assert written == ["killed", (2, tag), (4, tag)]


@pytest.mark.parametrize("name", ["4-scored.png", "4-nearest.png"])
def test_pictures_appear_whole(workdir, monkeypatch, name):
  def half(self, file, *arguments, **options):
    if hasattr(file, "write"):
      file.write(b"half")
    else:
      Path(file).write_bytes(b"half")
    raise KeyboardInterrupt

  owner = Image.Image if "scored" in name else Figure
  monkeypatch.setattr(owner, "save" if "scored" in name else "savefig", half)
  command = [f"--workdir={workdir}", "--metrics=nearest", "--num_samples=20"]
  assert evaluate.main([*command, "--inception=random:3"]) == 130
  assert not (workdir / "samples" / name).exists()
