"""Which results of a run share a file, and which samples a folder."""

import json

import numpy as np
import pytest

from evaluation import generation, report
from launch import evaluate, flags, run_samples
from tests.launch import scored_run

BOTH = {"unofficial_frechet_adm_20", "unofficial_is_adm_20"}


@pytest.fixture
def workdir(tmp_path, monkeypatch):
  return scored_run.make(tmp_path, monkeypatch)


@pytest.fixture
def written(monkeypatch):
  """Lists the parts that are written."""
  names = []
  write = generation._write_part

  def counted(path, arrays):
    names.append(path.name)
    write(path, arrays)

  monkeypatch.setattr(generation, "_write_part", counted)
  return names


def score(workdir, *more, num=20, inception="random:3"):
  command = [f"--workdir={workdir}", f"--num_samples={num}", "--batch=8"]
  assert evaluate.main([*command, f"--inception={inception}", *more]) == 0
  return sorted((workdir / "eval" / "4").glob("scores-*.json"))


@pytest.mark.parametrize("watch", [["--watch"], []])
def test_other_metrics_join_the_scores_that_are_there(workdir, watch):
  (path,) = score(workdir, "--metrics=fid", *watch)
  first = report.read(path)
  (path,) = score(workdir, "--metrics=is", *watch)
  found = report.read(path)
  assert set(found["scores"]) == set(found["values"]) == BOTH
  assert found["metrics"] == ["fid", "is"]
  assert set(first["notes"]) <= set(found["notes"])
  assert len(set(found["notes"])) == len(found["notes"])


def test_scores_of_other_images_are_replaced(workdir):
  (path,) = score(workdir, "--metrics=fid")
  changed = report.read(path) | {"digest": "of others"}
  path.write_text(json.dumps(changed))
  (path,) = score(workdir, "--metrics=is")
  assert set(report.read(path)["scores"]) == {"unofficial_is_adm_20"}


def test_what_makes_numbers_differ_has_a_file_of_its_own(workdir, tmp_path):
  metrics = ["--metrics=fid", "--watch"]
  images = np.random.RandomState(0).randint(0, 256, (9, 8, 8, 3), np.uint8)
  count = 1
  for name in ("a.npz", "b.npz"):
    images = images[::-1] // 2
    np.savez(tmp_path / name, images)
    assert len(score(workdir, *metrics, f"--reference={tmp_path / name}")) == (
      count
    )
    count += 1
  assert len(score(workdir, *metrics, inception="random:4")) == 3
  assert len(score(workdir, *metrics)) == 4
  assert len(score(workdir, *metrics, inception="")) == 5
  assert len(score(workdir, *metrics, "--size=4")) == 6
  found = score(workdir, *metrics, "--no_average")
  read = [report.read(path) for path in found]
  assert [x["metric"] for x in read] == [path.stem for path in found]
  assert workdir / "eval" / "4" / "scores-20-adm-seed0.json" in found
  assert sum("rechet" in name for x in read for name in x["scores"]) == 6
  digests = {x["reference_sha256"] for x in read}
  assert len(digests) == 3 and "" in digests


def test_samples_serve_every_preprocessing_and_can_be_added_to(
  workdir, written
):
  score(workdir, "--metrics=fid", num=10)
  assert written == [f"part-{i:08d}.npz" for i in range(0, 10, 8)]
  folder = workdir / "eval" / "4" / "samples-seed0"
  before = {p.name: p.read_bytes() for p in folder.glob("part-*")}
  del written[:]
  score(workdir, "--metrics=fid", "--preprocess=clean", num=10)
  assert not written
  score(workdir, "--metrics=fid", num=30)
  assert written == ["part-00000016.npz", "part-00000024.npz"]
  after = {p.name: p.read_bytes() for p in folder.glob("part-*")}
  assert before.items() <= after.items()
  # They are those of a job that asked for as many at once.
  for path in folder.iterdir():
    path.unlink()
  score(workdir, "--metrics=fid", num=30)
  assert after == {p.name: p.read_bytes() for p in folder.glob("part-*")}


class Sorted:
  num_classes = 17

  def __init__(self, labels):
    self._labels = labels

  def __len__(self):
    return len(self._labels)

  def read(self, indices):
    return [{"label": x} for x in self._labels[indices]]


@pytest.mark.parametrize("count", [1, 40, 1000, 4096])
def test_any_first_labels_have_nearly_the_histogram_of_all(count):
  records = np.sort(np.random.RandomState(0).randint(0, 5, count) ** 2)
  source = Sorted(records)
  dealt = np.array(run_samples.deal(source, 2 * count))
  for num in (1, 7, 100, 999, count, 2 * count):
    found = np.bincount(dealt[:num], minlength=17)
    wanted = np.bincount(records, minlength=17) * min(num / count, 2)
    slack = 0 if num % count == 0 else 3
    assert abs(found - wanted).max() <= slack


def test_a_model_without_classes_takes_no_labels_of_its_split():
  source = Sorted(np.arange(17))
  blind = flags.load("configs/dct_clevr.py")
  assert run_samples.labels_of(blind, source, 5) is None
  assert run_samples.policy(blind, source) == "none"
  told = flags.load("configs/dct_scenes.py")
  assert len(run_samples.labels_of(told, source, 5)) == 5
  assert run_samples.policy(told, source) == "as in the training split"
