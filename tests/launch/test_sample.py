"""launch.sample: the same samples however asked for, and clear refusals."""

import numpy as np
import pytest
from PIL import Image

from launch import export, sample, trained
from tests.launch import dct_run


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """Return the directory of a DCTransformer trained for six steps."""
  return dct_run.trained(tmp_path_factory.mktemp("run"))


def _draw(workdir, out, *options):
  command = [f"--workdir={workdir}", f"--out={out}", "--batch=4", *options]
  assert sample.main(command) == 0
  with np.load(out / "samples.npz") as archive:
    return dict(archive)


def test_samples_do_not_depend_on_how_many_are_asked_for(workdir, tmp_path):
  few = _draw(workdir, tmp_path / "few", "--num_samples=3")
  # Continues in the same folder: the first part is kept.
  first = sorted((tmp_path / "few" / "parts").glob("part-*"))[0]
  before = first.stat().st_mtime_ns
  many = _draw(workdir, tmp_path / "few", "--num_samples=6")
  assert first.stat().st_mtime_ns == before
  np.testing.assert_array_equal(many["arr_0"][:3], few["arr_0"])
  assert many["arr_0"].shape == (6, 32, 32, 3)
  np.testing.assert_array_equal(many["labels"], np.arange(6))
  names = {path.name for path in (tmp_path / "few").iterdir()}
  assert {"grid.png", "heat_maps.png", "progressive.png", "images"} <= names
  assert len(list((tmp_path / "few" / "images").glob("*.png"))) == 6
  with Image.open(tmp_path / "few" / "images" / "000002.png") as image:
    np.testing.assert_array_equal(np.asarray(image), many["arr_0"][2])
  again = _draw(workdir, tmp_path / "few", "--num_samples=2")
  np.testing.assert_array_equal(again["arr_0"], few["arr_0"][:2])
  assert len(list((tmp_path / "few" / "images").glob("*.png"))) == 2


def test_one_device_and_four_draw_the_same_samples(workdir, tmp_path):
  four = _draw(workdir, tmp_path / "four", "--num_samples=2")
  alone = _draw(workdir, tmp_path / "alone", "--num_samples=2", "--batch=1")
  np.testing.assert_array_equal(four["arr_0"], alone["arr_0"])


def test_given_band_comes_back(workdir, tmp_path):
  small = tmp_path / "small.png"
  pixels = np.random.default_rng(0).integers(60, 190, (4, 4, 3), np.uint8)
  Image.fromarray(pixels).save(small)
  drawn = _draw(
    workdir,
    tmp_path / "out",
    f"--upsample={small}",
    "--num_samples=4",
    "--temperature=1,0.9,0.9",
  )
  # A sample's blocks have the small picture's luma: no element can be added
  # to band 0 once it is given, and later bands have no mean.
  grey = lambda x: x @ np.array([0.299, 0.587, 0.114])
  blocks = grey(drawn["arr_0"].astype(float)).reshape(4, 4, 8, 4, 8)
  inside = np.abs(blocks.mean(axis=(2, 4)) - grey(pixels)).mean()
  assert inside < 12  # clipping to 0..255 moves a little


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (["--labels=24"], "label 24 must be between 0 and 23"),
    (["--labels=red"], "'red' must be numbers"),
    (["--size=64"], "'64' must be HEIGHTxWIDTH"),
    (["--temperature=1,2"], "'1,2' must be one number, or three"),
    (["--size=33x32"], "multiples of 16"),
    (["--top_p=0"], "top_p"),
    (["--guidance=2"], "class_drop"),
    (["--colorize=missing.png"], "missing.png"),
    (["--complete=x.png"], "--fraction"),
    (["--fraction=0.5"], "--complete"),
    (["--step=3"], "take one of 2, 4, 6"),
    (["--step=best"], "no checkpoint of a best evaluation"),
    (["--step=bets"], "invalid step value: 'bets'"),
    (["--temprature=1"], "Did you mean --temperature"),
  ],
)
def test_bad_requests_end_in_one_line(
  workdir, tmp_path, capsys, options, message
):
  out = tmp_path / "out"
  command = [f"--workdir={workdir}", f"--out={out}", *options]
  assert sample.main(command) != 0
  error = capsys.readouterr().err.strip()
  assert message in error and "\n" not in error
  assert not (out / "samples.npz").exists()


def test_another_job_in_the_same_folder_is_refused(workdir, tmp_path, capsys):
  _draw(workdir, tmp_path / "out", "--num_samples=2")
  command = [f"--workdir={workdir}", f"--out={tmp_path / 'out'}", "--batch=4"]
  assert sample.main([*command, "--num_samples=2", "--seed=1"]) != 0
  assert "seed" in capsys.readouterr().err


def test_pictures_of_somebody_else_are_left_alone(workdir, tmp_path, capsys):
  theirs = tmp_path / "images" / "000064.png"
  theirs.parent.mkdir()
  Image.new("RGB", (2, 2)).save(theirs)
  before = theirs.read_bytes()
  command = [f"--workdir={workdir}", f"--out={tmp_path}", "--num_samples=1"]
  assert sample.main(command) == 1
  assert "holds files that are not of samples" in capsys.readouterr().err
  assert theirs.read_bytes() == before
  assert list(tmp_path.rglob("*.*")) == [theirs]


def test_weights_of_ones_own_are_never_taken_for_what_ships(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "dct_scenes.json").write_text("{}")
  command = ["--weights=dct_scenes", "--out=out"]
  assert sample.main(command) == 1
  assert "--weights=./dct_scenes" in capsys.readouterr().err
  assert trained.read_config("./dct_scenes") is None  # ours, and empty


def test_damaged_image_is_one_line(workdir, tmp_path, capsys):
  broken = tmp_path / "broken.png"
  broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
  out = tmp_path / "out"
  assert (
    sample.main(
      [f"--workdir={workdir}", f"--out={out}", f"--upsample={broken}"]
    )
    != 0
  )
  assert "broken.png" in capsys.readouterr().err


def test_exported_weights_give_the_same_samples(workdir, tmp_path, capsys):
  assert export.main([f"--workdir={workdir}", f"--out={tmp_path / 'w'}"]) == 0
  ours = _draw(workdir, tmp_path / "run", "--num_samples=2")
  command = [f"--weights={tmp_path / 'w'}", f"--out={tmp_path / 'weights'}"]
  assert sample.main([*command, "--batch=4", "--num_samples=2"]) == 0
  with np.load(tmp_path / "weights" / "samples.npz") as theirs:
    np.testing.assert_array_equal(theirs["arr_0"], ours["arr_0"])
  assert sample.main([*command, "--step=1"]) == 1
  assert "holds step 6 only" in capsys.readouterr().err


def test_shipped_weights_open_and_unknown_ones_are_refused(tmp_path, capsys):
  assert "dct_scenes" in trained.shipped()
  assert trained.open_trained("dct_scenes").task.codec.rows == 8
  assert sample.main(["--weights=dct_scene", f"--out={tmp_path}"]) != 0
  assert "Did you mean dct_scenes" in capsys.readouterr().err
