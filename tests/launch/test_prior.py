"""Priors from the command line: trained, sampled, conditioned, refused."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from launch import (
  datasets,
  first_stages,
  flags,
  request,
  runs,
  sample,
  tasks,
  tokenize,
  train,
)
from launch.adapters import prior_given
from tests import scenes_data
from tests.configs import test_prior as configs
from training import sharding


def _train(name, folder, *changes):
  """Train the tiny form of a config for two steps on a few scenes."""
  config = flags.load(
    name,
    [
      *scenes_data.fields().items(),
      ("train.num_steps", "2"),
      ("train.checkpoint_every", "2"),
      ("train.log_every", "1"),
      ("optimizer.warmup_steps", "0"),
      ("eval.every", "0"),
      ("sample.every", "0"),
      *changes,
    ],
  )
  finished = train.train(config, folder, write_tensorboard=False)
  assert finished.step == 2
  return folder


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """Return a run of label maps and classes."""
  return _train(
    "configs/prior_scenes.py:segmentation,tiny",
    tmp_path_factory.mktemp("prior") / "run",
    ("model.num_classes", "24"),
  )


def _draw(workdir, out, *options):
  command = [f"--workdir={workdir}", f"--out={out}", "--batch=2"]
  assert sample.main([*command, "--num_samples=2", *options]) == 0
  with np.load(out / "samples.npz") as archive:
    return dict(archive)


def test_condition_comes_from_the_dataset_or_from_a_file(workdir, tmp_path):
  drawn = _draw(workdir, tmp_path / "data")
  records = scenes_data.scenes_source("validation").read(np.arange(2))
  labels = [record["label"] for record in records]
  np.testing.assert_array_equal(drawn["labels"], labels)
  assert drawn["arr_0"].shape == (2, 32, 32, 3)
  assert (tmp_path / "data" / "given.png").is_file()
  path = tmp_path / "map.png"
  Image.fromarray(np.full((40, 48), 7, np.uint8)).save(path)
  ours = _draw(workdir, tmp_path / "file", f"--condition={path}", "--labels=3")
  assert ours["labels"].tolist() == [3, 3]
  given = sample.load(tmp_path / "file")["given"]
  assert (given == given[0, 0, 0]).all()
  wide = _draw(workdir, tmp_path / "wide", "--size=32x48")
  assert wide["arr_0"].shape == (2, 32, 48, 3)


def bright(images, labels):
  """Return how bright pictures are: a --score."""
  del labels
  return images.astype(float).mean((1, 2, 3))


def wrong(images, labels):
  """Return what is no score."""
  del labels
  return images.mean((1, 2))


def plain(images, labels):
  """Return a score by NumPy, which JAX cannot trace."""
  del labels
  return np.asarray(images).mean((1, 2, 3))


def test_draws_are_chosen_by_a_function(workdir, tmp_path):
  plain = _draw(workdir, tmp_path / "plain")
  options = [f"--score={__name__}:bright", "--acceptance=0.2"]
  chosen = _draw(workdir, tmp_path / "chosen", *options)
  mean = lambda drawn: drawn["arr_0"].mean((1, 2, 3))
  assert (mean(chosen) >= mean(plain)).all()  # the plain ones are among them
  assert (mean(chosen) > mean(plain)).any()
  np.testing.assert_allclose(chosen["score"], mean(chosen), rtol=1e-5)
  np.testing.assert_array_equal(chosen["labels"], plain["labels"])


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (["--score=nowhere:bright"], "No module named 'nowhere'"),
    ([f"--score={__name__}:brihgt"], "has no attribute 'brihgt'"),
    ([f"--score={__name__}:__name__"], "is no function"),
    ([f"--score={__name__}:plain"], "is no function of JAX"),
    (
      [f"--score={__name__}:bright", "--acceptance=1"],
      "must be above 0 and below 1",
    ),
    ([f"--score={__name__}:wrong"], "must give one number a picture, [4]"),
    (
      [f"--score={__name__}:bright", "--acceptance=0"],
      "must be above 0 and below 1",
    ),
  ],
)
def test_functions_that_cannot_choose_are_one_line(
  options, message, workdir, tmp_path, capsys
):
  out = tmp_path / "out"
  command = [f"--workdir={workdir}", f"--out={out}", "--batch=4"]
  assert sample.main([*command, "--acceptance=0.5", *options]) == 1
  assert message in capsys.readouterr().err.strip().splitlines()[-1]
  assert not (out / "samples.npz").exists()


def test_half_of_a_picture_is_kept(workdir, tmp_path):
  image, label_map = tmp_path / "image.png", tmp_path / "map.png"
  pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
  Image.fromarray(pixels).save(image)
  Image.fromarray(np.zeros((32, 32), np.uint8)).save(label_map)
  options = [f"--complete={image}", "--fraction=0.5"]
  options += [f"--condition={label_map}", "--labels=3"]
  _draw(workdir, tmp_path / "out", *options)
  drawn = sample.load(tmp_path / "out")
  codes = drawn["tokens"]
  task = runs.open_run(workdir).task
  first = first_stages.load("vqgan_scenes").params
  own = np.asarray(task.tokenizer.encode(first, pixels[None]))
  assert (codes[:, :4] == own[:, :4]).all()
  assert (codes[0, 4:] != codes[1, 4:]).any()
  assert (drawn["given"][:, 16:] == 128).all()


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (["--upsample=IMAGE"], "--upsample means nothing to task prior"),
    (["--size=30x32"], "multiples of 4 from 32x32 on"),
    (["--guidance=2"], "class_drop"),
    (["--labels=25"], "label 25 must be"),
    (
      ["--complete=IMAGE", "--fraction=0.5"],
      "is unknown, and the model has no",
    ),
    (
      ["--complete=IMAGE", "--fraction=0.5", "--labels=3"],
      "--condition=FILE too",
    ),
    (["--complete=IMAGE", "--fraction=2"], "fraction 2.0 must be in 0..1"),
    (["--condition=IMAGE"], "a label map of one channel"),
    (["--condition=BOXES"], "must be a picture, not .json"),
    (["--condition=MAP"], "label 99 of the map must be below 25"),
    (["--condition=missing.png"], "cannot be read"),
  ],
)
def test_bad_requests_end_in_one_line(
  workdir, tmp_path, capsys, options, message
):
  Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "i.png")
  Image.fromarray(np.full((32, 32), 99, np.uint8)).save(tmp_path / "m.png")
  (tmp_path / "b.json").write_text(json.dumps([]))
  names = {"IMAGE": "i.png", "MAP": "m.png", "BOXES": "b.json"}
  for word, name in names.items():
    options = [x.replace(word, str(tmp_path / name)) for x in options]
  out = tmp_path / "out"
  assert sample.main([f"--workdir={workdir}", f"--out={out}", *options]) != 0
  error = capsys.readouterr().err.strip().splitlines()[-1]
  assert message in error
  assert not (out / "samples.npz").exists()


def test_boxes_and_points_are_read_from_json(tmp_path):
  adapter = tasks.get("prior")
  config = flags.load("configs/prior_scenes.py:boxes,tiny")
  task = adapter.make_task(config, adapter.assumed(config))
  boxes = [{"box": [0.0, 0.25, 0.5, 1.0], "label": 7}]
  asked = request.from_config(config, condition=boxes)
  rows = prior_given.rows(config, task, asked)
  assert rows["box_labels"][0, :2].tolist() == [7, -1]
  tokens = task.tokens({}, rows, None)
  assert tokens[0, 0] == 7


def test_flags_of_boxes_are_read_from_json():
  adapter = tasks.get("prior")
  config = flags.load("configs/prior_scenes.py:boxes,tiny")
  with config.unlocked():
    config.condition.flags = "group,inside"
  task = adapter.make_task(config, adapter.assumed(config))
  assert "box_flags" in adapter.fields(config, adapter.assumed(config), "train")
  box = {"box": [0.0, 0.25, 0.5, 1.0], "label": 7}
  given = lambda **told: prior_given.rows(
    config, task, request.from_config(config, condition=[box | told])
  )
  rows = given(flags=["inside"])
  assert rows["box_flags"][0, :2].tolist() == [8, 0]
  assert task.tokens({}, rows, None)[0, 0] == 7 + 25 * 8
  assert given()["box_flags"].sum() == 0
  for told in ("inside", ["occluded"], 3, [["group"]]):
    with pytest.raises(ValueError, match="it knows group, inside"):
      given(flags=told)
  with config.unlocked():
    config.condition.flags = ""
  task = adapter.make_task(config, adapter.assumed(config))
  with pytest.raises(ValueError, match="it knows none"):
    given(flags=["group"])


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    ([{"box": [0, 0, 1]}], "must hold"),
    ([{"box": [0, 0, 2, 1], "label": 1}], "must hold"),
    ([{"box": [0, 0, float("nan"), 1], "label": 1}], "must hold"),
    ([{"box": [0.5, 0, 0.2, 1], "label": 1}], "must hold"),
    ([{"box": [0, 0], "label": 1}] * 2, "must hold"),
    ([{"box": [0, 0, 1, 1], "label": 1}] * 5, "must hold at most 4 boxes"),
    ([{"box": [0, 0, 1, 1], "label": 10**12}], "must hold"),
    ([{"box": [0, 0, 1, 1], "label": 25}], r"label 25 .* must be in 0\.\.24"),
    ([{"box": [0, 0, 1, 1], "label": -1}], "label -1 of --condition"),
    (3, "must hold"),
  ],
)
def test_boxes_that_cannot_be_are_refused(wrong, message):
  adapter = tasks.get("prior")
  config = flags.load("configs/prior_scenes.py:boxes,tiny")
  task = adapter.make_task(config, adapter.assumed(config))
  asked = request.from_config(config, condition=wrong)
  with pytest.raises(ValueError, match=message):
    prior_given.rows(config, task, asked)


@pytest.mark.parametrize("form", ["segmentation", "lowres"])
def test_pictures_of_16_bits_are_refused_instead_of_wrapped(form):
  adapter = tasks.get("prior")
  config = flags.load(f"configs/prior_scenes.py:{form},tiny")
  task = adapter.make_task(config, adapter.assumed(config))
  value = np.full((32, 32), 256, np.uint16)
  asked = request.from_config(config, condition=value)
  with pytest.raises(ValueError, match="8 bits"):
    prior_given.rows(config, task, asked)
  one = request.from_config(config, condition=np.ones((32, 32), bool))
  (row,) = prior_given.rows(config, task, one).values()
  assert (row == (1 if form == "segmentation" else 255)).all()


def test_depth_is_not_completed_by_a_picture():
  adapter = tasks.get("prior")
  config = flags.load(
    "configs/prior_scenes.py:tiny",
    [("tokenizer.weights", ""), ("tokenizer.like.data.target", "depth")],
  )
  task = adapter.make_task(config, adapter.assumed(config))
  image = np.zeros((32, 32, 3), np.uint8)
  asked = request.from_config(config, given="complete", image=image)
  with pytest.raises(ValueError, match="only models of pictures complete one"):
    prior_given.rows(config, task, asked)


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
  """Return a folder of the codes of crops of scenes, and their records."""
  folder = tmp_path_factory.mktemp("codes")
  random = np.random.RandomState(0)
  images = random.randint(0, 256, (8, 32, 47, 3), np.uint8)
  splits = {"train_images": images, "validation_images": images}
  np.savez(folder / "images.npz", **splits)
  command = [
    "--weights=vqgan_scenes",
    "--config=configs/vqgan_scenes.py",
    "--config.data.source=arrays",
    f"--config.data.dir={folder / 'images.npz'}",
    "--config.data.split=train",
    "--config.data.eval_split=validation",
    "--config.data.size=(32, 32)",
    "--config.data.zoom=1",
    "--flips",
    f"--out={folder / 'codes'}",
  ]
  assert tokenize.main(command) == 0
  return folder / "codes"


def _of_codes(coded):
  return [
    ("data.source", "codes"),
    ("data.dir", str(coded)),
    ("data.split", "train"),
    ("data.eval_split", "validation"),
    ("tokenizer.weights", ""),
  ]


def test_codes_say_where_in_the_picture_they_lie(coded, tmp_path):
  workdir = _train(
    "configs/prior_scenes.py:coordinates,tiny", tmp_path, *_of_codes(coded)
  )
  run = runs.open_run(workdir)
  source = datasets.open_source(run.config, "train")
  batch, *_ = datasets.eval_batches(
    run.config,
    run.adapter,
    run.measured,
    source,
    sharding.make_mesh({"data": 1}, jax.local_devices()[:1]),
  )
  # The middle 32 of 47 columns, and the same of its mirror image.
  expected = [[0, 7 / 47, 1, 39 / 47], [0, 8 / 47, 1, 40 / 47]]
  np.testing.assert_allclose(np.asarray(batch["crop"])[:2], expected, rtol=1e-6)
  drawn = _draw(workdir, tmp_path / "out")
  assert drawn["arr_0"].shape == (2, 32, 32, 3)


@pytest.mark.parametrize("kind", ["edges", "lowres"])
def test_codes_without_a_picture_say_what_to_train_from(
  coded, tmp_path, capsys, kind
):
  fields = dict(_of_codes(coded)).items()
  command = [f"--config=configs/prior_scenes.py:{kind},tiny"]
  command += [f"--config.{name}={value}" for name, value in fields]
  assert train.main([*command, f"--workdir={tmp_path / 'run'}"]) == 1
  error = capsys.readouterr().err.strip().splitlines()[-1]
  said = "launch.train: error: this dataset of codes has no image, which the "
  assert error.startswith(said)
  assert "train from pictures, with the data.source and data.dir" in error
  assert not (tmp_path / "run").exists()


def test_poses_are_read_from_the_disk(tmp_path):
  random = np.random.RandomState(0)
  for split, count in (("train", 8), ("validation", 2)):
    for kind in ("images", "keypoints"):
      (tmp_path / "data" / split / kind).mkdir(parents=True)
    for i in range(count):
      folder = tmp_path / "data" / split
      image = random.randint(0, 256, (32, 32, 3), np.uint8)
      Image.fromarray(image).save(folder / "images" / f"{i}.png")
      figure = [random.rand(18, 3).round(3).tolist()]
      (folder / "keypoints" / f"{i}.json").write_text(json.dumps(figure))
  workdir = _train(
    "configs/prior_deepfashion_keypoints.py:tiny",
    tmp_path / "run",
    ("data.source", "pairs"),
    ("data.dir", str(tmp_path / "data")),
    ("condition.skeleton", "openpose18"),
  )
  drawn = _draw(workdir, tmp_path / "out")
  assert drawn["arr_0"].shape == (2, 32, 32, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", configs.FULL)
def test_every_tiny_config_trains_and_samples(name, tmp_path):
  stem, _, arg = name.partition(".py:")
  arg = f"{arg},tiny" if arg else "tiny"
  workdir = _train(f"configs/{stem}.py:{arg}", tmp_path / "run")
  drawn = _draw(workdir, tmp_path / "out")
  assert drawn["arr_0"].shape == (2, 32, 32, 3)
