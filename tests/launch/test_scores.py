"""FID and the other scores from the command line, with a tiny network."""

import numpy as np
import pytest
from PIL import Image

from evaluation import pixels, reference, report
from launch import (
  evaluate,
  image_sources,
  scores,
  statistics,
)
from tests.evaluation import tiny_network
from weights import lpips

RANDOM = np.random.RandomState(0)
IMAGES = RANDOM.randint(0, 256, (30, 8, 8, 3), np.uint8)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
  def open_network(source, mode):
    return tiny_network.make(weights=source or "6726825d", mode=mode)

  monkeypatch.setattr(scores, "open_network", open_network)


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
    ([*base, "--preprocess=clean"], 1, "made with preprocess adm, not clean"),
    ([*base, "--inception=random:0"], 1, "not random:0"),
    ([*base, "--size=4"], 1, "not [4, 4]"),
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


def test_the_network_of_lpips_is_named(monkeypatch):
  monkeypatch.setattr(lpips, "load", lpips.random)
  sums = scores.PairSums(["lpips"])
  pair = RANDOM.randint(0, 256, (2, 1, 64, 64, 3), np.uint8)
  sums.add(*pair)
  expected = pixels.lpips(lpips.random("alex"), *pair, "alex")
  assert sums.means() == {"lpips_alex": pytest.approx(float(expected[0]))}
  assert report.better("lpips_alex") == "lower"
