"""launch.tokenize: the same codes however it ran, and clear refusals."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from data import arrays, codes
from launch import datasets, first_stages, tokenize
from tests import shared
from tests.launch import tiny_stage
from training import rundir

SIZE = (8, 12)
_FLAGS = [
  "--config.data.source=arrays",
  "--config.data.size=(8, 12)",
  "--config.data.zoom=1",
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
  """Weights of a first stage with random parameters."""
  return tiny_stage.write(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  """An `.npz` of a training and a validation split, wider than they are cut."""
  path = tmp_path_factory.mktemp("images") / "images.npz"
  return tiny_stage.write_noise(path, (8, 16), labelled=True)


def _command(weights, images, out, *options):
  return [
    f"--weights={weights}",
    "--config=configs/vqgan_scenes.py",
    f"--config.data.dir={images}",
    f"--out={out}",
    "--shard=8",
    "--batch=1",
    *_FLAGS,
    *options,
  ]


def _run(*args):
  return tokenize.main(_command(*args))


def _files(folder):
  """The bytes of all files of a folder, by name."""
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }


def test_codes_are_those_of_the_tokenizer(weights, images, tmp_path):
  assert _run(weights, images, tmp_path, "--flips") == 0
  found = codes.Codes(str(tmp_path), "train")
  assert len(found) == 42 and found.flips and found.grid == (4, 6)
  assert len(codes.Codes(str(tmp_path), "validation")) == 6
  stage = first_stages.load(weights)
  assert found.tokenizer == stage.fingerprint()
  beside = first_stages.load(str(codes.tokenizer_path(str(tmp_path))))
  assert beside.fingerprint() == found.tokenizer
  with np.load(images) as held:
    cut = held["train_images"][:, :, 2:14]
  coder = first_stages.make_tokenizer(stage.config, SIZE)
  both = np.stack([cut, cut[:, :, ::-1]], 1).reshape(42, *SIZE, 3)
  expected = np.asarray(jax.jit(coder.encode)(stage.params, both))
  records = found.read(np.arange(42))
  same = np.stack([x["codes"] for x in records]) == expected
  assert same.mean() > 0.99  # another batch may round another way
  assert len(np.unique(expected)) > 4
  assert [x["label"] for x in records] == (np.arange(42) // 2 % 3).tolist()
  crops = np.stack([x["crop"] for x in records])
  np.testing.assert_allclose(crops, [[0, 2 / 16, 1, 14 / 16]] * 42, rtol=1e-6)


def test_a_stopped_job_ends_with_the_same_files_on_any_devices(
  weights, images, tmp_path, monkeypatch
):
  assert _run(weights, images, tmp_path / "whole") == 0
  write, written = codes.write_shard, []

  def killed(folder, number, columns):
    if written:
      partial = folder / ".shard-00001.7.partial"
      partial.mkdir()
      (partial / "label.npy").write_bytes(b"half")
      raise OSError("no space left on device")
    written.append(number)
    write(folder, number, columns)

  out = tmp_path / "stopped"
  with monkeypatch.context() as patch:
    patch.setattr(codes, "write_shard", killed)
    assert _run(weights, images, out) == 1
  assert not (out / "train" / codes.DESCRIPTION).exists()
  first = (out / "train" / "shard-00000" / "codes.npy").stat().st_mtime_ns
  one = jax.local_devices()[:1]
  monkeypatch.setattr(jax, "local_devices", lambda: one)
  assert _run(weights, images, out) == 0
  again = (out / "train" / "shard-00000" / "codes.npy").stat().st_mtime_ns
  assert again == first
  assert _files(out) == _files(tmp_path / "whole")


_KILLED = """
import sys, time
from data import codes
from launch import tokenize
write = codes.write_shard
def slow(*args):
  write(*args)
  print("a shard", flush=True)
  time.sleep(60)
codes.write_shard = slow
sys.exit(tokenize.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_killed_job_goes_on_to_the_same_files(weights, images, tmp_path):
  assert _run(weights, images, tmp_path / "whole") == 0
  out = tmp_path / "killed"
  command = [sys.executable, "-c", _KILLED, *_command(weights, images, out)]
  job = subprocess.Popen(
    command, cwd=shared.ROOT, stdout=subprocess.PIPE, text=True
  )
  assert job.stdout.readline() == "a shard\n"
  job.send_signal(signal.SIGKILL)
  assert job.wait(60) == -signal.SIGKILL
  assert [x.name for x in (out / "train").glob("shard-*")] == ["shard-00000"]
  assert _run(weights, images, out) == 0
  assert _files(out) == _files(tmp_path / "whole")


def test_what_belongs_to_an_image_is_cut_as_it_is(
  weights, tmp_path, monkeypatch
):
  image = np.random.RandomState(1).randint(0, 256, (3, 8, 16, 3), np.uint8)
  image[0, 0, 0] = 7
  boxes = np.zeros((3, 1, 4), np.float32)
  boxes[:] = [0, 0.25, 0.5, 0.5]  # columns 4 to 8 of 16, 2 to 6 of 12
  source = arrays.Arrays(
    image,
    segmentation=image[..., 0],
    depth=image[..., 1].astype(np.uint16),
    boxes=boxes,
    box_labels=np.int32([[4], [5], [6]]),
    box_flags=np.int32([[1], [0], [8]]),
  )
  monkeypatch.setattr(datasets, "open_source", lambda *_: source)
  assert _run(weights, "", tmp_path, "--flips", "--splits=train") == 0
  found = codes.Codes(str(tmp_path), "train").read(np.arange(6))
  for i, record in enumerate(found):
    cut = image[i // 2][:, 2:14]
    cut = cut[:, ::-1] if i % 2 else cut
    np.testing.assert_array_equal(record["segmentation"], cut[..., 0])
    order = record["depth"].ravel().argsort(kind="stable")
    assert (np.diff(cut[..., 1].ravel()[order].astype(int)) >= 0).all()
    left, right = (2 / 12, 6 / 12) if i % 2 == 0 else (6 / 12, 10 / 12)
    np.testing.assert_allclose(
      record["boxes"], [[0, left, 0.5, right]], atol=1e-6
    )
    assert record["box_labels"].tolist() == [4 + i // 2]
    assert record["box_flags"].tolist() == [(1, 0, 8)[i // 2]]
    np.testing.assert_allclose(record["crop"], [0, 2 / 16, 1, 14 / 16])


def test_key_points_come_along_but_not_mirrored(
  weights, tmp_path, monkeypatch, capsys
):
  image = np.random.RandomState(1).randint(0, 256, (3, 8, 16, 3), np.uint8)
  points = np.float32([[[[0.5, 0.5, 1], [0, 0, 0]]]] * 3)
  source = arrays.Arrays(image, keypoints=points)
  monkeypatch.setattr(datasets, "open_source", lambda *_: source)
  assert _run(weights, "", tmp_path, "--flips", "--splits=train") == 1
  assert "without --flips" in capsys.readouterr().err
  assert _run(weights, "", tmp_path, "--splits=train") == 0
  for record in codes.Codes(str(tmp_path), "train").read(np.arange(3)):
    middle = record["keypoints"][0, 0]
    np.testing.assert_allclose(middle, points[0, 0, 0], atol=1e-6)


@pytest.mark.parametrize("kind", ["--palette=5", "--pixels"])
def test_pixels_are_written_without_a_first_stage(images, tmp_path, kind):
  command = [
    kind,
    "--config=configs/vqgan_scenes.py",
    f"--config.data.dir={images}",
    f"--out={tmp_path}",
    "--splits=train",
    *_FLAGS,
  ]
  assert tokenize.main(command) == 0
  before = _files(tmp_path)
  assert tokenize.main(command) == 0
  assert _files(tmp_path) == before
  found = codes.Codes(str(tmp_path), "train")
  assert found.grid == SIZE and found.factor == 1
  assert found.num_codes == (5 if "palette" in kind else 256)
  assert found.read(np.array([0]))[0]["codes"].max() < found.num_codes


def test_jobs_that_differ_do_not_mix(weights, images, tmp_path, capsys):
  assert _run(weights, images, tmp_path, "--splits=train") == 0
  capsys.readouterr()

  def refused(*options, weights=weights):
    code = _run(weights, images, tmp_path, *options)
    error = capsys.readouterr().err
    assert code and error.count("\n") == 1
    return error

  assert "another job (flips False, now True)" in refused("--flips")
  assert "(grid [4, 6], now [4, 4])" in refused("--config.data.size=(8, 8)")
  assert "shard_images 8, now 9" in refused("--shard=9")
  other = tiny_stage.write(tmp_path / "other", seed=1)
  assert "holds codes of tokenizer" in refused(weights=other)
  (tmp_path / "validation").mkdir()
  (tmp_path / "validation" / "notes.txt").write_text("mine")
  assert "holds something else" in refused()
  content = json.loads((tmp_path / "train" / codes.DESCRIPTION).read_text())
  assert content["shards"] == [8, 8, 5]


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (["--palette=4"], "give one of --workdir, --weights"),
    (["--splits=test"], "no split 'test'"),
    (["--shard=0"], "--shard 0 must be at least 1"),
    (["--config.data.sice=3"], "Did you mean --config.data.size?"),
    (["--config.data.size=(7, 12)"], "must be multiples of the factor 2"),
    (["--flip"], "Did you mean --flips?"),
    (["--used_onli"], "Did you mean --used_only?"),
  ],
)
def test_what_cannot_be_is_said_in_one_line(
  weights, images, tmp_path, capsys, options, message
):
  assert _run(weights, images, tmp_path, *options) in (1, 2)
  error = capsys.readouterr().err
  assert message in error and error.count("\n") == 1
  assert not (tmp_path / "train").exists()


@pytest.mark.parametrize(
  "field", ["data.flip", "data.label_shift", "model.channels", "seed"]
)
def test_overrides_that_nothing_reads_are_refused(
  weights, images, tmp_path, capsys, field
):
  assert _run(weights, images, tmp_path, f"--config.{field}=1") == 2
  error = capsys.readouterr().err
  assert f"nothing reads --config.{field} here" in error
  assert "takes data.source, data.name, data.dir" in error
  assert error.count("\n") == 1
  assert ("mirror images: --flips" in error) == (field == "data.flip")
  assert not list(tmp_path.iterdir())


def test_overrides_that_are_read_or_say_the_same_are_taken(
  weights, images, tmp_path
):
  same = ("--config.data.target=image", "--config.data.channels=3")
  assert _run(weights, images, tmp_path, "--splits=train", *same) == 0
  few = ["--palette=3", "--config.seed=1", "--config.data.num_measured=2"]
  command = [
    *few,
    *_FLAGS,
    "--config=configs/vqgan_scenes.py",
    f"--config.data.dir={images}",
    f"--out={tmp_path / 'palette'}",
    "--splits=train",
  ]
  assert tokenize.main(command) == 0


def test_pictures_that_the_stage_reads_otherwise_are_refused(
  tmp_path, monkeypatch, capsys
):
  maps = tiny_stage.config()
  maps.data.target = "segmentation"
  maps.data.num_labels, maps.data.label_shift = 4, 1
  weights = tiny_stage.write(tmp_path, made=maps)
  map_ = np.random.RandomState(1).randint(0, 3, (3, 8, 16), np.uint8)
  image = np.zeros((3, 8, 16, 3), np.uint8)
  source = arrays.Arrays(image, segmentation=map_)
  monkeypatch.setattr(datasets, "open_source", lambda *_: source)
  out = tmp_path / "codes"

  def refused(*options):
    assert _run(weights, "", out, "--splits=train", *options) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and not out.exists()
    return error

  said = "reads images with data.{}={}, and the config of these has {}"
  assert said.format("target", "segmentation", "image") in refused()
  target = "--config.data.target=segmentation"
  labels = "--config.data.num_labels=4"
  assert said.format("num_labels", 4, 0) in refused(target)
  error = refused(target, labels)
  assert said.format("label_shift", 1, 0) in error
  remedy = "--config.data.label_shift=1"
  assert remedy in error
  assert _run(weights, "", out, "--splits=train", target, labels, remedy) == 0
  stage = first_stages.load(weights)
  coder = first_stages.make_tokenizer(stage.config, SIZE)
  expected = jax.jit(coder.encode)(stage.params, map_[:, :, 2:14] + 1)
  found = codes.Codes(str(out), "train").read(np.arange(3))
  np.testing.assert_array_equal([x["codes"] for x in found], expected)
  assert len(np.unique(expected)) > 1
  map_[2, 3, 9] = 3  # shifted no class of the stage
  out = tmp_path / "beyond"
  assert _run(weights, "", out, "--splits=train", target, labels, remedy) == 1
  error = capsys.readouterr().err.splitlines()[-1]
  said = "the label map of example 2 holds class 4, of data.num_labels 4: "
  assert said in error


def test_datasets_without_what_the_stage_reads_are_refused(
  weights, images, tmp_path, capsys
):
  made = tmp_path / "codes"
  assert _run(weights, images, made, "--splits=train") == 0
  maps = tiny_stage.config()
  maps.data.target, maps.data.num_labels = "segmentation", 4
  reads_maps = tiny_stage.write(tmp_path, made=maps)
  same = ["--config.data.target=segmentation", "--config.data.num_labels=4"]
  out = tmp_path / "out"
  for lacks, other, options in (
    ("image", weights, ["--config.data.source=codes"]),
    ("segmentation", reads_maps, same),
  ):
    from_ = made if lacks == "image" else images
    capsys.readouterr()
    assert _run(other, from_, out, "--splits=train", *options) == 1
    error = capsys.readouterr().err
    assert f"train has no {lacks}, which" in error and error.count("\n") == 1
    assert not out.exists()
  palette = ["--palette=2", "--config=configs/vqgan_scenes.py", f"--out={out}"]
  from_codes = [f"--config.data.dir={made}", "--config.data.source=codes"]
  assert tokenize.main([*palette, *from_codes]) == 1
  assert "train has no image, which palette reads" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("task", "message"),
  [
    (None, "holds no run"),
    ("prior", "is of task prior, which has no codes"),
    ("vqgan", "measured.npz cannot be read"),
  ],
)
def test_a_directory_without_a_first_stage_is_said_in_one_line(
  task, message, tmp_path, capsys
):
  config = tiny_stage.config()
  if task:
    config.task = task
    rundir.write_json(tmp_path / "config.json", config.to_dict())
  out = tmp_path / "codes"
  assert tokenize.main([f"--workdir={tmp_path}", f"--out={out}"]) == 1
  error = capsys.readouterr().err
  assert message in error and error.count("\n") == 1
  assert not out.exists()


def test_a_first_stage_that_was_cut_short_is_said_in_one_line(
  images, tmp_path, capsys
):
  weights = Path(tiny_stage.write(tmp_path))
  tensors = weights.with_name("small.safetensors")
  tensors.write_bytes(tensors.read_bytes()[:-100])
  described = weights.with_name("small.json")
  text = described.read_text("utf-8")
  for content in (text, text[:-9], "[]", "{}"):
    described.write_text(content)
    assert _run(weights, images, tmp_path / "codes") == 1
    error = capsys.readouterr().err
    assert "cannot be read" in error and error.count("\n") == 1
  assert not (tmp_path / "codes").exists()
