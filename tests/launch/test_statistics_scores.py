"""Statistics take the place of images on either side."""

import types

import numpy as np
import pytest

from evaluation import report
from launch import evaluate, run_scores, scores, statistics
from tests.evaluation import tiny_network

RANDOM = np.random.RandomState(0)
IMAGES = RANDOM.randint(0, 256, (2, 30, 8, 8, 3), np.uint8)
PUBLIC = "6726825d"


@pytest.fixture
def opened(monkeypatch):
  """Lists the networks that were opened."""
  found = []

  def open_network(source, mode):
    found.append((source, mode))
    return tiny_network.make(weights=source or PUBLIC, mode=mode)

  monkeypatch.setattr(scores, "open_network", open_network)
  return found


@pytest.fixture
def files(opened, tmp_path):
  """Images and statistics by name."""
  paths = {}
  for name, images in zip("ab", IMAGES):
    paths[name] = tmp_path / f"{name}.npz"
    np.savez(paths[name], images)
    made = tmp_path / f"{name}-statistics.npz"
    command = [f"--images={paths[name]}", f"--out={made}"]
    assert statistics.main(command) == 0
    paths[name.upper()] = made
  opened.clear()
  return paths


def score(files, samples, against, out, *more):
  command = [f"--samples={files[samples]}", f"--reference={files[against]}"]
  assert evaluate.main([*command, f"--out={out}", *more]) == 0
  return report.read(out)


def test_any_two_give_the_same_scores(files, opened, tmp_path):
  expected = score(files, "a", "b", tmp_path / "0")["scores"]
  # The Inception Score needs logits.
  left = {k: v for k, v in expected.items() if not k.startswith("is_")}
  for samples, against in ("aB", "Ab", "AB"):
    opened.clear()
    found = score(files, samples, against, tmp_path / "1")
    wanted = expected if samples == "a" else left
    assert found["scores"] == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    assert found["num_samples"] == found["num_reference"] == 30
    assert found["size"] == [8, 8] and found["digest"]
    # Two files need no network.
    assert len(opened) == (0 if (samples + against).isupper() else 1)
  assert any("without logits" in note for note in found["notes"])


def test_files_of_other_tools_are_scored(files, tmp_path, opened, capsys):
  plain = {}
  for name in "AB":
    plain[name] = tmp_path / f"{name}-plain.npz"
    with np.load(files[name]) as file:
      np.savez(plain[name], mu=file["mu"], sigma=file["sigma"])
  command = [f"--samples={plain['A']}", f"--reference={plain['B']}"]
  command += [f"--out={tmp_path / 'out'}"]
  assert evaluate.main(command) == 1
  assert "give --num_samples" in capsys.readouterr().err
  assert not (tmp_path / "out").exists()
  assert evaluate.main([*command, "--num_samples=30"]) == 0
  assert "a size that is not known" in capsys.readouterr().out
  found = report.read(tmp_path / "out")
  expected = score(files, "A", "B", tmp_path / "1")["scores"]
  assert found["scores"] == {
    "fid_adm_unchecked_30": pytest.approx(expected["fid_adm_30"], rel=1e-9)
  }
  said = "\n".join(found["notes"])
  assert said.count("taken on trust") == 2
  assert "the samples are statistics without features" not in said
  assert "the reference has neither images nor features" in said
  assert opened == []


def test_a_number_on_trust_is_not_comparable():
  net = tiny_network.make(weights=PUBLIC)
  for name, said in (("fid_adm_50k", True), ("fid_adm_unchecked_50k", False)):
    result = {"num_samples": 50_000, "samples": "x", "scores": {name: 1.0}}
    job = types.SimpleNamespace(net=net)
    assert run_scores._for_the_page(job, "", result)["comparable"] is said


def test_images_in_a_file_stand_in_for_its_features(files, opened, tmp_path):
  kept = tmp_path / "kept.npz"
  command = [f"--images={files['a']}", f"--out={kept}", "--keep_images=20"]
  assert statistics.main(command) == 0
  with np.load(kept) as file:
    arrays = {x: file[x] for x in ("mu", "sigma", "mu_s", "sigma_s", "arr_0")}
  places = np.arange(20) * 30 // 20
  np.testing.assert_array_equal(arrays["arr_0"], IMAGES[0, places])
  adm = tmp_path / "adm.npz"
  np.savez(adm, **arrays)
  opened.clear()
  found = score(
    files | {"adm": adm}, "adm", "B", tmp_path / "s", "--num_samples=30"
  )
  assert len(opened) == 1
  expected = score(files, "A", "B", tmp_path / "1")["scores"]
  for name in ("fid_adm_30", "sfid_adm_30"):
    assert found["scores"][name] == pytest.approx(expected[name], rel=1e-9)
  twenty = tmp_path / "twenty.npz"
  np.savez(twenty, IMAGES[0, places])
  few = score(files | {"x": twenty}, "x", "B", tmp_path / "2")["scores"]
  for name in ("precision", "recall", "coverage"):
    assert found["scores"][f"{name}_adm_30"] == few[f"{name}_adm_20"]
  assert any("20 of 30 samples" in x for x in found["notes"])
  assert statistics.main([*command[:2], "--keep_images=31"]) == 1


def test_fewer_features_than_images_are_noted(files, tmp_path, monkeypatch):
  monkeypatch.setattr(scores, "REFERENCE_IMAGES", 20)
  few = tmp_path / "few.npz"
  command = [f"--images={files['a']}", f"--out={few}"]
  assert statistics.main(command) == 0
  found = score(files | {"few": few}, "few", "B", tmp_path / "s")
  said = "\n".join(found["notes"])
  assert "20 of 30 samples" in said


@pytest.mark.parametrize(
  "more, said",
  [
    (["--size=4"], "--size is not for it"),
    (["--transform=grey"], "--transform is not for it"),
    (["--metrics=psnr"], "has none"),
    (["--num_samples=20"], "is of 30 images"),
    (["--preprocess=clean"], "made with preprocess adm, not clean"),
    (["--inception=random:0"], "made with weights 6726825d, not random:0"),
    (["--reference="], "need a --reference"),
    (["--reference=MADE"], "clean.npz was made with preprocess clean, not adm"),
  ],
)
def test_what_does_not_fit_is_one_line(files, tmp_path, capsys, more, said):
  made = tmp_path / "clean.npz"
  command = [f"--images={files['b']}", f"--out={made}", "--preprocess=clean"]
  assert statistics.main(command) == 0
  capsys.readouterr()
  command = [f"--samples={files['A']}", f"--reference={files['B']}"]
  command += [word.replace("MADE", str(made)) for word in more]
  assert evaluate.main([*command, f"--out={tmp_path / 'out'}"]) == 1
  error = capsys.readouterr().err
  assert said in error and len(error.splitlines()) == 1
  assert not (tmp_path / "out").exists()
