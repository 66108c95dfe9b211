"""launch.tokenize --used_only: a vocabulary without codes of no use."""

import numpy as np
import pytest

from data import codes
from launch import first_stages, tokenize
from tests.launch import tiny_stage

SIZE = tiny_stage.NOISE_SIZE
_run = tiny_stage.tokenize_noise


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
  """Weights of a first stage with random parameters and 16 codes."""
  return tiny_stage.write(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  """An `.npz` of a training and a validation split."""
  path = tmp_path_factory.mktemp("images") / "images.npz"
  return tiny_stage.write_noise(path, SIZE)


def _files(folder):
  """The bytes of all files of a folder, by name."""
  return {
    path.relative_to(folder): path.read_bytes()
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }


def test_only_codes_in_use_are_kept(
  weights, images, tmp_path, monkeypatch, capsys
):
  whole, out = tmp_path / "whole", tmp_path / "used"
  assert _run(weights, images, whole, "--flips") == 0
  command = (weights, images, out, "--flips", "--used_only")
  assert _run(*command) == 0
  found = codes.Codes(str(out), "train")
  before, after = (
    np.stack([record["codes"] for record in source.read(np.arange(42))])
    for source in (codes.Codes(str(whole), "train"), found)
  )
  used = np.unique(before)
  assert 4 < len(used) < 16 and found.num_codes == len(used)
  assert f"{len(used)} of 16 codes are used" in capsys.readouterr().out
  np.testing.assert_array_equal(used[after], before)
  # What is beside them encodes and decodes as the whole one does.
  beside = str(codes.tokenizer_path(str(out)))
  stages = [first_stages.load(x) for x in (weights, beside)]
  decode = lambda stage, codes: np.asarray(
    first_stages.make_tokenizer(stage.config, SIZE).decode(stage.params, codes)
  )
  np.testing.assert_array_equal(
    decode(stages[0], before[:4].astype(int)),
    decode(stages[1], after[:4].astype(int)),
  )
  assert found.tokenizer == stages[1].fingerprint()
  held_out = codes.Codes(str(out), "validation").read(np.arange(6))
  assert max(record["codes"].max() for record in held_out) < len(used)
  # Going on, nothing is counted again.
  files = _files(out)
  monkeypatch.setattr(tokenize, "_count", None)
  assert _run(*command) == 0 and _files(out) == files
  monkeypatch.undo()
  for folder, options in ((out, ()), (whole, ("--used_only",))):
    assert _run(weights, images, folder, "--flips", *options) == 1
    assert "holds codes of tokenizer" in capsys.readouterr().err
  assert _files(out) == files


def test_without_a_codebook_nothing_is_counted(
  images, tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(tokenize, "_count", None)
  made = tiny_stage.config()
  made.quantizer.update(name="finite", num_codes=0, width=0, levels=(4, 4))
  finite = tiny_stage.write(tmp_path, made=made)
  assert _run(finite, images, tmp_path / "out", "--used_only") == 1
  assert "has no codebook to cut" in capsys.readouterr().err
  assert not (tmp_path / "out").exists()


def test_pixels_have_no_codes_to_drop(images, tmp_path, capsys):
  command = ["--pixels", "--config=configs/vqgan_scenes.py", "--used_only"]
  assert tokenize.main([*command, f"--out={tmp_path / 'out'}"]) == 2
  assert "--used_only is of first stages" in capsys.readouterr().err
