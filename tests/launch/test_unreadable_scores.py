"""Scores of splits with a file that cannot be read."""

import argparse
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from data import arrays
from evaluation import image_sets, reference, report
from launch import (
  datasets,
  evaluate,
  flags,
  image_sources,
  plans,
  reconstruction_scores,
  reconstructions,
  runs,
  score_job,
  score_pictures,
  train,
)
from tests.evaluation import tiny_network
from tests.launch import (
  processes,
  scored_run,
  test_evaluate_processes,
  test_score_evaluator,
  tiny_stage,
  toy,
  unreadable,
)

BROKEN = {"validation": (2,), "train": (5,)}
tiny = test_score_evaluator.tiny  # a network in Inception's place


def reconstruct(self, state, batch):
  """Every picture becomes its mean."""
  grey = jnp.clip(jnp.rint((batch["grey"] + 2.56) * 50), 0, 255)
  shape = (len(grey), 8, 8, 3)
  return jnp.broadcast_to(grey[:, None, None, None], shape).astype("uint8")


def expected_psnr(data):
  """Returns that of `reconstruct` on what is readable."""
  with np.load(data) as held:
    images = held["validation_images"]
  images = np.delete(images, BROKEN["validation"], axis=0)
  grey = np.rint(images.mean((1, 2, 3), keepdims=True))
  error = ((images - grey) ** 2).mean((1, 2, 3))
  return np.mean(10 * np.log10(255**2 / error))


@pytest.fixture
def broken(monkeypatch):
  """Each split has a file that cannot be read."""
  monkeypatch.setattr(arrays.Arrays, "from_npz", arrays.Arrays.from_npz)
  monkeypatch.setattr(toy.Toy, "reconstruct", reconstruct, raising=False)
  unreadable.break_pictures(BROKEN)


def test_reconstructions_are_scored_without_it(broken, tmp_path, monkeypatch):
  workdir = scored_run.make(tmp_path, monkeypatch)
  command = [f"--workdir={workdir}", "--metrics=reconstruction", "--batch=8"]
  assert evaluate.main([*command, "--inception=random:3"]) == 0
  path = workdir / "eval" / "4" / "reconstruction-adm-random-3.json"
  found = report.read(path)
  assert found["num_samples"] == 12
  assert "unofficial_rfrechet_adm_12" in found["scores"]
  psnr = expected_psnr(tmp_path / "data.npz")
  assert found["scores"]["psnr"] == pytest.approx(psnr, abs=0.01)
  said = "1 of 13 images of data.npz validation are unreadable"
  assert found["notes"].count(said) == 1


def test_samples_are_compared_with_the_rest(broken, tmp_path, monkeypatch):
  workdir = scored_run.make(tmp_path, monkeypatch)
  labels = []
  score_classes = score_pictures.per_class.precision_recall
  monkeypatch.setattr(
    score_pictures.per_class,
    "precision_recall",
    lambda *a: labels.append(a[1]) or score_classes(*a),
  )
  drawn = []
  monkeypatch.setattr(
    score_pictures.nearest, "figure", lambda *a: drawn.append(a[1])
  )
  command = [f"--workdir={workdir}", "--num_samples=20", "--batch=8"]
  command += ["--metrics=fid,nearest,per_class", "--inception=random:3"]
  for _ in range(2):  # the second time with statistics of the disk
    assert evaluate.main(command) == 0
  path = workdir / "eval" / "4" / "scores-20-adm-seed0-random-3.json"
  found = report.read(path)
  assert found["num_reference"] == 39
  said = "1 of 40 images of data.npz train are unreadable"
  assert found["notes"].count(said) == 1
  (kept,) = (workdir / "eval").glob("reference-train-*.npz")
  places = np.delete(np.arange(40), 5)
  np.testing.assert_array_equal(reference.load(kept).places, places)
  with np.load(tmp_path / "data.npz") as held:
    pictures, known = held["train_images"], held["train_labels"]
  for dealt in labels:
    np.testing.assert_array_equal(dealt, known[places])
  readable = {x.tobytes() for x in pictures[places]}
  assert {x.tobytes() for row in drawn[0] for x in row} <= readable


def test_a_set_is_as_long_as_it_says():
  images = np.zeros((6, 4, 4, 3), np.uint8)
  whole = image_sets.from_array(images)
  pieces = lambda size: whole.take(5).pieces(size)
  left_out = image_sets.ImageSet("five", 6, pieces, left_out=lambda: [3])
  assert sum(len(piece) for _, piece in left_out.batches(4)) == 5
  np.testing.assert_array_equal(left_out.readable(), [0, 1, 2, 4, 5])
  for promised in (None, list, lambda: [1, 3]):
    other = image_sets.ImageSet("five", 6, pieces, left_out=promised)
    with pytest.raises(image_sets.ImageSetError, match="five has 5 images"):
      list(other.batches(4))


def test_padding_alone_is_no_piece(broken, tmp_path):
  # Nine images in batches of four are three; without one the last is empty.
  data = toy.write_data(tmp_path / "data.npz")
  config = toy.get_config(str(data))
  source = arrays.Arrays.from_npz(str(data), "validation")
  source = image_sources.source_lib.Part(source, np.arange(9))
  run = runs.Run(tmp_path, config, toy, {}, toy.make_task(config, {}))
  images = image_sources.from_run(run, source)
  assert [len(x) for x in images.pieces(4)] == [4, 4]


@pytest.mark.parametrize("what", ["samples", "reconstructions"])
def test_training_goes_on_where_a_file_is_unreadable(
  what, broken, tmp_path, monkeypatch
):
  scored = {"num": 13, "metrics": "fid"}
  if what == "reconstructions":
    monkeypatch.delattr(toy.Toy, "sample")
    scored["metrics"] = "fid,psnr"
  config = test_score_evaluator.make_config(tmp_path, **scored)
  config.sample.every = 0
  names = {"samples": "frechet", "reconstructions": "rfrechet"}
  name = f"eval/unofficial_{names[what]}_adm_13"
  config.train.best = name
  train.train(config.lock(), tmp_path / "run", write_tensorboard=False)
  read = lambda name: test_score_evaluator.read(tmp_path / "run", name)
  assert sorted(read(name)) == [4, 8]
  if what == "samples":
    return
  log = (tmp_path / "run" / "log.txt").read_text("utf-8")
  assert log.count("1 of 13 images of data.npz validation are unreadable") == 2
  psnr = expected_psnr(tmp_path / "data.npz")
  assert read("eval/psnr") == pytest.approx({4: psnr, 8: psnr}, abs=0.01)


@pytest.mark.parametrize("what", ["samples", "reconstructions"])
def test_training_goes_on_where_images_cannot_be_scored(
  what, tmp_path, monkeypatch
):
  make = toy.make_array_encode

  def make_array_encode(config, measured, use):
    # Pictures of two sizes have no common features.
    encode = make(config, measured, use)
    size = lambda record: np.int32([[4 if record["example_id"] == 3 else 8, 8]])
    if use != "image":
      return encode
    return lambda record, seed: {**encode(record, seed), "size": size(record)}

  monkeypatch.setattr(toy, "make_array_encode", make_array_encode)
  if what == "reconstructions":
    monkeypatch.setattr(toy.Toy, "reconstruct", reconstruct, raising=False)
    monkeypatch.delattr(toy.Toy, "sample")
  config = test_score_evaluator.make_config(tmp_path, num=13, metrics="fid")
  config.sample.every = 0
  train.train(config.lock(), tmp_path / "run", write_tensorboard=False)
  log = (tmp_path / "run" / "log.txt").read_text("utf-8").splitlines()
  said = [line for line in log if "no scores at step" in line]
  assert len(said) == 2 and all("differ in size" in line for line in said)
  status = json.loads((tmp_path / "run" / "status.json").read_text())
  assert status["state"] == "completed"


def test_training_goes_on_where_one_image_is_readable(tmp_path, monkeypatch):
  monkeypatch.setattr(arrays.Arrays, "from_npz", arrays.Arrays.from_npz)
  monkeypatch.setattr(toy.Toy, "reconstruct", reconstruct, raising=False)
  monkeypatch.delattr(toy.Toy, "sample")
  unreadable.break_pictures({"validation": (6,)})
  config = test_score_evaluator.make_config(tmp_path, num=2, metrics="fid")
  config.sample.every = 0
  train.train(config.lock(), tmp_path / "run", write_tensorboard=False)
  log = (tmp_path / "run" / "log.txt").read_text("utf-8")
  assert log.count("no scores at step") == 2
  assert log.count("1 examples have no covariance") == 2


@pytest.fixture
def folder(tmp_path):
  """A run of a first stage, on JPEG files that are larger than it reads."""
  for split, count in (("train", 3), ("validation", 7)):
    place = tmp_path / "pictures" / split
    place.mkdir(parents=True)
    random = np.random.RandomState(len(split))
    for i in range(count):
      image = random.randint(0, 256, (6, 9, 3), np.uint8)
      image = Image.fromarray(image).resize((52, 37))
      image.save(place / f"{i}.jpg", quality=90)
  (place / "2.jpg").write_bytes(b"\xff\xd8\xffno picture")
  fields = {
    **tiny_stage.FIELDS,
    "data.source": "folder",
    "data.dir": str(tmp_path / "pictures"),
    "data.zoom": "1",
    "adversary.weight": "0",
    "loss.perceptual": "0",
    "quantizer.seed_codebook": "False",
    "eval.batch_size": "8",
  }
  config = flags.load("configs/vqgan_scenes.py:tiny", list(fields.items()))
  plan = plans.make(config)
  task = plan.adapter.make_task(config, {})
  run = runs.Run(tmp_path / "run", config, plan.adapter, {}, task)
  state = task.init(jax.random.key(0), {})
  options = argparse.Namespace(size=0, no_average=False, batch=4)
  net = tiny_network.make()
  return score_job.Job(run, state, 0, None, net, options)


def test_originals_are_what_was_reconstructed(folder, monkeypatch):
  monkeypatch.setattr(
    type(folder.run.task), "reconstruct", lambda self, _, batch: batch["image"]
  )
  (folder.run.workdir / "eval").mkdir(parents=True)
  found = reconstruction_scores.reconstruct(folder)
  assert found["num_samples"] == 6
  assert found["scores"]["psnr"] == np.inf
  assert found["scores"]["unofficial_rfrechet_adm_6"] < 1e-6
  assert found["scores"]["ssim"] == found["scores"]["edges"] == 1
  assert any("1 of 7 images" in note for note in found["notes"])
  (kept,) = (folder.run.workdir / "eval").glob("reference-*-seen-*.npz")
  assert reference.load(kept).metadata["count"] == 6


@pytest.mark.slow
def test_two_processes_pair_images_as_one(tmp_path, monkeypatch):
  scored_run.make(tmp_path, monkeypatch).rename(tmp_path / "one")
  shutil.copytree(tmp_path / "one", tmp_path / "two")
  program = test_evaluate_processes._MAIN.replace(
    "\nfor command",
    "\nfrom tests.launch import unreadable\n"
    f"unreadable.break_pictures({BROKEN})\nfor command",
  )
  more = "--metrics=reconstruction,fid --num_samples=20 --inception=random:3"
  found = []
  for name, start in (("one", processes.alone), ("two", processes.pair)):
    start(program, [f"evaluate --workdir={tmp_path / name} {more} --batch=4"])
    folder = tmp_path / name / "eval" / "4"
    found.append([report.read(x) for x in sorted(folder.glob("*-*.json"))])
  psnr = expected_psnr(tmp_path / "data.npz")
  for results in found:
    assert results[0]["scores"]["psnr"] == pytest.approx(psnr, abs=0.01)
    assert results[0]["num_samples"] == 12
    assert results[1]["num_reference"] == 39
  for one, two in zip(*found, strict=True):
    assert two["scores"] == pytest.approx(one["scores"], rel=1e-4)
    assert two["notes"] == one["notes"]
    assert two["digest"] == one["digest"]


def test_pairs_come_in_the_size_that_is_asked_for(folder):
  batches = lambda: datasets.eval_batches(
    folder.run.config,
    folder.run.adapter,
    {},
    source,
    reconstruction_scores.sharding.make_mesh({"data": -1}),
  )
  source = datasets.open_source(folder.run.config, "validation")
  pairs = reconstructions.Reconstructions(folder, source, batches)
  assert [len(x.made) for x in pairs.pairs(4)] == [4, 2]
  assert all(x.made.shape == x.real.shape for x in pairs.pairs(5))


@pytest.mark.parametrize("number", [1, 2])
def test_pairs_come_in_order_whoever_read_them(folder, number, monkeypatch):
  with folder.run.config.unlocked():
    folder.run.config.eval.batch_size = 4
  source = datasets.open_source(folder.run.config, "validation")
  encode = folder.run.adapter.make_encode(folder.run.config, {}, "eval")

  def batches():
    parts = [
      datasets.pipeline(folder.run.config).eval_batches(
        source, encode, batch_size=4, process_index=i, process_count=number
      )
      for i in range(number)
    ]
    # The second lacks one of its files, so the first is behind it.
    for parted in zip(*parts, strict=True):
      yield jax.tree.map(lambda *x: np.concatenate(x), *parted)

  monkeypatch.setattr(jax, "process_count", lambda: number)
  pairs = reconstructions.Reconstructions(folder, source, batches)
  found = np.concatenate([x.real for x in pairs.pairs(4)])
  monkeypatch.undo()
  images = image_sources.from_run(folder.run, source)
  expected = np.concatenate([*images.pieces(4)])
  assert found.shape == expected.shape
  error = np.abs(found[:, None] - expected[None].astype(float)).mean((2, 3, 4))
  np.testing.assert_array_equal(error.argmin(1), np.arange(6))
