import json

import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from data import order
from data import source as source_lib
from evaluation import features, image_sets, moments, reference, report
from launch import errors, evaluate, score_evaluator, scores, tasks, train
from launch import report as html_report
from tests.evaluation import tiny_network
from tests.launch import toy
from weights import download, lpips


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
  monkeypatch.setitem(tasks.ADAPTERS, "toy", "tests.launch.toy")
  monkeypatch.setattr(
    scores,
    "open_network",
    lambda source, mode: tiny_network.make(weights=source, mode=mode),
  )


def make_config(tmp_path, **scored):
  config = toy.get_config(str(toy.write_data(tmp_path / "data.npz")))
  config.train.num_steps = 8
  values = {
    "every": 4,
    "num": 20,
    "batch": 16,
    "inception": "random:0",
    "preprocess": "adm",
    "metrics": "fid,precision_recall",
  }
  config.eval.scores = ml_collections.ConfigDict({**values, **scored})
  return config


@pytest.fixture
def run(tmp_path):
  config = make_config(tmp_path).lock()
  train.train(config, tmp_path / "run", write_tensorboard=False)
  return tmp_path / "run"


def read(run, name):
  lines = [json.loads(x) for x in (run / "metrics.jsonl").open()]
  return {line["step"]: line[name] for line in lines if name in line}


def test_training_scores_its_samples_on_a_schedule(run, capsys):
  found = read(run, "eval/unofficial_frechet_adm_20")
  assert sorted(found) == [4, 8] and all(np.isfinite(list(found.values())))
  kept = list((run / "eval").glob("reference-train-40-full-adm-*.npz"))
  assert len(kept) == 1 and reference.load(kept[0]).metadata["count"] == 40
  # launch.evaluate compares with the same statistics.
  command = [f"--workdir={run}", "--metrics=fid", "--num_samples=20"]
  assert evaluate.main([*command, "--inception=random:0"]) == 0
  path = run / "eval" / "8" / "scores-20-adm-seed0-random-0.json"
  scored = report.read(path)["scores"]
  assert set(scored) == {"unofficial_frechet_adm_20"}


def test_samples_have_the_labels_of_the_split_and_a_batch_of_their_own(
  tmp_path, monkeypatch
):
  labels, batches = [], []

  def make(config, task, measured, key, request):
    labels.append(request.labels)
    return toy.make_sampler(config, task, measured, key)

  def extract(images, net, *, batch, **options):
    batches.append(batch)
    return extract_features(images, net, batch=batch, **options)

  extract_features = features.extract
  monkeypatch.setattr(toy, "make_requested_sampler", make, raising=False)
  monkeypatch.setattr(toy, "SAMPLING", (), raising=False)
  monkeypatch.setattr(features, "extract", extract)
  config = make_config(tmp_path, batch=8)
  for name in ("temperature", "top_k", "top_p", "guidance"):
    config.sample[name] = 1
  train.train(config.lock(), tmp_path / "run", write_tensorboard=False)
  with np.load(tmp_path / "data.npz") as data:
    expected = data["train_labels"][np.arange(20) * 23 % 40]
  np.testing.assert_array_equal(labels, [expected])
  assert set(batches) == {8}


def test_a_first_stage_scores_its_reconstructions(tmp_path, monkeypatch):
  def reconstruct(self, state, batch):
    grey = jnp.clip((batch["grey"] + 2.56) * 50, 0, 255).astype("uint8")
    return jnp.tile(grey[:, None, None, None], (1, 8, 8, 3))

  monkeypatch.setattr(toy.Toy, "reconstruct", reconstruct, raising=False)
  monkeypatch.delattr(toy.Toy, "sample")
  config = make_config(tmp_path, num=9, metrics="fid,psnr")
  config.sample.every = 0
  train.train(config.lock(), tmp_path / "run", write_tensorboard=False)
  found = read(tmp_path / "run", "eval/unofficial_rfrechet_adm_9")
  assert sorted(found) == [4, 8] and all(x >= 0 for x in found.values())
  with np.load(tmp_path / "data.npz") as data:
    images = data["validation_images"]
  images = images[order.subset(9, len(images))]
  grey = images.mean((1, 2, 3), keepdims=True).astype(np.uint8)
  error = (np.float64(images) - grey) ** 2
  expected = np.mean(10 * np.log10(255**2 / error.mean((1, 2, 3))))
  found = read(tmp_path / "run", "eval/psnr")
  assert found == pytest.approx({4: expected, 8: expected}, abs=0.02)


@pytest.mark.parametrize("inception", ["6726825d", "random:0"])
def test_lpips_is_looked_for_before_the_first_step(
  inception, tmp_path, monkeypatch, caplog
):
  def load(net):
    raise download.WeightsMissing(f"put {net} there")

  # A first stage: it only reconstructs.
  monkeypatch.setattr(toy.Toy, "reconstruct", None, raising=False)
  monkeypatch.delattr(toy.Toy, "sample")
  monkeypatch.setattr(lpips, "load", load)
  config = make_config(tmp_path, metrics="psnr,lpips", inception=inception)
  task = toy.make_task(config, {})
  open_network = lambda: score_evaluator.open_network(config, task)
  if inception.startswith("random"):
    assert open_network() is not None
    assert "random features, so without LPIPS" in caplog.text
    return
  with pytest.raises(errors.CommandError, match="put alex there, or leave lp"):
    open_network()
  config.eval.scores.metrics = "psnr"
  assert open_network() is not None


@pytest.mark.parametrize(
  "wrong, said",
  [
    ({"metrics": "fid,recal"}, "no 'recal'"),
    ({"metrics": "psnr"}, "no 'psnr'"),
    ({"num": 1}, "num 1 must be at least 2"),
    ({"batch": 0}, "batch 0 at least 1"),
  ],
)
def test_wrong_scores_are_refused_before_the_first_step(tmp_path, wrong, said):
  config = make_config(tmp_path, **wrong).lock()
  with pytest.raises(ValueError, match=said):
    train.train(config, tmp_path / "run", write_tensorboard=False)
  assert not (tmp_path / "run").exists()


def test_the_page_of_a_run_shows_scores_of_training(run):
  page = html_report.write(run).read_text("utf-8")
  assert "scores, step 8" in page
  assert "unofficial_frechet_adm_20" in page


def test_training_scores_against_a_given_file(run, tmp_path, capsys):
  (kept,) = (run / "eval").glob("reference-train-40-full-adm-*.npz")
  given = kept.rename(tmp_path / "given.npz")
  first = read(run, "eval/unofficial_frechet_adm_20")
  again = tmp_path / "again"
  config = make_config(tmp_path, reference=str(given)).lock()
  train.train(config, again, write_tensorboard=False)
  assert read(again, "eval/unofficial_frechet_adm_20") == first
  # The split was not measured again.
  assert not list((again / "eval").glob("reference-*.npz"))


@pytest.mark.parametrize(
  "kind",
  [
    image_sets.ImageSetError,
    moments.FeatureError,
    reference.StatisticsError,
    source_lib.DataError,
  ],
)
def test_a_reference_that_fails_in_training_is_not_tried_again(kind, caplog):
  tried = []

  def make_reference():
    tried.append(kind)
    raise kind("it is damaged")

  found = score_evaluator.Scores(
    None, 20, 16, 4, tiny_network.make(), make_reference
  )
  results = [found.run(None, step) for step in (4, 8, 12)]
  assert all(x.failed and not x.scalars for x in results)
  assert len(tried) == 1 and len(caplog.messages) == 3
  for step, said in zip((4, 8, 12), caplog.messages, strict=True):
    assert f"no scores at step {step}: it is damaged" in said


def test_a_damaged_reference_does_not_end_a_first_stage(tmp_path, monkeypatch):
  reconstruct = lambda self, state, batch: jnp.zeros(
    (len(batch["grey"]), 8, 8, 3), jnp.uint8
  )
  monkeypatch.setattr(toy.Toy, "reconstruct", reconstruct, raising=False)
  monkeypatch.delattr(toy.Toy, "sample")
  config = make_config(tmp_path, num=9, metrics="fid,psnr")
  config.sample.every = 0
  name = "reference-validation-9-full-adm-random-0.npz"
  damaged = tmp_path / "run" / "eval" / name
  damaged.parent.mkdir(parents=True)
  damaged.write_bytes(b"no zip")
  train.train(config.lock(), tmp_path / "run", write_tensorboard=False)
  log = (tmp_path / "run" / "log.txt").read_text("utf-8")
  assert log.count("no scores at step") == 2
  assert log.count("cannot be read as .npz") == 2
  assert log.count("a restart tries it again") == 1


@pytest.mark.parametrize("what", ["absent", "of other weights"])
def test_a_reference_that_is_none_ends_a_run_before_it_begins(
  what, run, tmp_path
):
  (kept,) = (run / "eval").glob("reference-train-40-full-adm-*.npz")
  fields = {"reference": str(tmp_path / "none.npz")}
  if what == "of other weights":
    fields = {"reference": str(kept), "inception": "random:1"}
  config = make_config(tmp_path, **fields).lock()
  with pytest.raises(ValueError, match=r"is absent|was made with weights"):
    train.train(config, tmp_path / "other", write_tensorboard=False)
  assert not (tmp_path / "other" / "checkpoints").exists()
