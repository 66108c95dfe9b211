"""launch.tokenize --dtype: other codes, told apart from those of float32."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from data import codes
from launch import first_stages, tokenize, train
from tests.launch import tiny_stage
from vqgan import autoencoder

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


def _codes(out):
  found = codes.Codes(str(out), "train")
  return np.stack([x["codes"] for x in found.read(np.arange(21))]), found


def _refused(capsys, *command):
  capsys.readouterr()
  assert _run(*command) == 1
  error = capsys.readouterr().err
  assert error.count("\n") == 1
  return error


def test_each_precision_has_its_codes_and_its_fingerprint(
  weights, images, tmp_path, monkeypatch
):
  seen = []
  encode = autoencoder.Autoencoder.encode

  def watched(self, pixels, **options):
    seen.append(jnp.dtype(self.dtype).name)
    return encode(self, pixels, **options)

  monkeypatch.setattr(autoencoder.Autoencoder, "encode", watched)
  folders = [tmp_path / name for name in ("plain", "float32", "bfloat16")]
  for folder, dtype in zip(folders, (None, "float32", "bfloat16"), strict=True):
    seen.clear()
    options = [f"--dtype={dtype}"] if dtype else []
    assert _run(weights, images, folder, *options) == 0
    assert set(seen) == {dtype or "float32"}
  (plain, first), (same, second), (coarse, third) = map(_codes, folders)
  np.testing.assert_array_equal(plain, same)
  assert first.tokenizer == second.tokenizer != third.tokenizer
  # Nearly the same latents: a few codes differ.
  assert 0 < (coarse != plain).mean() < 0.2
  # Naming what lies beside them goes on in their precision.
  beside = str(codes.tokenizer_path(str(folders[2])))
  assert first_stages.load(beside).fingerprint() == third.tokenizer
  assert _run(beside, images, tmp_path / "again") == 0
  again, fourth = _codes(tmp_path / "again")
  np.testing.assert_array_equal(again, coarse)
  assert fourth.tokenizer == third.tokenizer


def test_decoding_is_the_same_of_every_precision(weights):
  stage = first_stages.load(weights)
  rows = np.random.RandomState(0).randint(0, 16, (3, 4, 6))
  made = [
    np.asarray(jax.jit(coder.decode)(stage.params, rows))
    for coder in (
      first_stages.make_tokenizer(
        first_stages.with_dtype(stage, name).config, SIZE
      )
      for name in first_stages.DTYPES
    )
  ]
  np.testing.assert_array_equal(*made)


def test_codes_of_another_precision_are_refused(
  weights, images, tmp_path, monkeypatch, capsys
):
  out = tmp_path / "codes"
  assert _run(weights, images, out, "--splits=train", "--dtype=bfloat16") == 0
  for options in (["--dtype=float32"], []):
    error = _refused(capsys, weights, images, out, *options)
    assert "holds codes made in bfloat16, not in float32" in error
    assert "--dtype=bfloat16" in error
  used = tmp_path / "used"
  coarse = ("--used_only", "--dtype=bfloat16")
  assert _run(weights, images, used, *coarse) == 0
  monkeypatch.setattr(tokenize, "_count", None)  # nothing is counted for it
  error = _refused(capsys, weights, images, used, "--used_only")
  assert "not in float32" in error
  assert _run(weights, images, used, *coarse) == 0


def test_a_prior_whose_first_stage_is_of_another_precision_refuses_the_codes(
  weights, images, tmp_path, capsys
):
  out = tmp_path / "codes"
  assert _run(weights, images, out, "--dtype=bfloat16") == 0
  command = [
    "--config=configs/prior_scenes.py:tiny",
    "--config.data.source=codes",
    f"--config.data.dir={out}",
    "--config.data.split=train",
    "--config.data.eval_split=validation",
    "--config.data.size=(8, 12)",
    "--config.model.num_classes=0",
    f"--config.tokenizer.weights={weights}",
    f"--workdir={tmp_path / 'run'}",
  ]
  assert train.main(command) == 1
  error = capsys.readouterr().err
  assert f"are of tokenizer {_codes(out)[1].tokenizer}, this run" in error


@pytest.mark.parametrize("used", [(), ("--used_only",)])
def test_codes_of_another_tokenizer_are_no_matter_of_precision(
  weights, images, tmp_path, capsys, monkeypatch, used
):
  out = tmp_path / "codes"
  assert _run(weights, images, out, "--splits=train", "--dtype=bfloat16") == 0
  other = tiny_stage.write(tmp_path, seed=1)
  monkeypatch.setattr(tokenize, "_count", None)  # nothing is counted for it
  error = _refused(capsys, other, images, out, *used)
  assert f"holds codes of tokenizer {_codes(out)[1].tokenizer}, not" in error
  assert "choose another --out" in error and "--dtype" not in error


@pytest.mark.parametrize("kind", ["palette", "pixels"])
def test_a_precision_of_what_has_no_network_is_refused(
  weights, images, tmp_path, capsys, kind
):
  plain = ml_collections.ConfigDict({"task": kind, "num_codes": 4})
  palette = np.random.RandomState(0).rand(4, 3).astype(np.float32)
  named = {"palette": palette} if kind == "palette" else {}
  reduced = first_stages.reduced(plain)
  path, out = tmp_path / kind, tmp_path / "codes"
  first_stages.save(first_stages.FirstStage(reduced, named, kind), path)
  error = _refused(capsys, path, images, out, "--dtype=bfloat16")
  assert f"task {kind}, which has no network" in error
  assert "leave out --dtype" in error and not out.exists()
  # Beside codes of a network in bfloat16, too, it is another tokenizer.
  assert _run(weights, images, out, "--splits=train", "--dtype=bfloat16") == 0
  assert "of tokenizer" in _refused(capsys, path, images, out)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (["--weights=x", "--dtype=float16"], "choose from"),
    (["--pixels", "--dtype=bfloat16"], "--dtype is of first stages"),
  ],
)
def test_precisions_that_cannot_be_are_said_in_one_line(
  tmp_path, capsys, options, message
):
  assert tokenize.main([*options, f"--out={tmp_path / 'out'}"]) == 2
  error = capsys.readouterr().err
  assert message in error and error.count("\n") == 1
  assert not (tmp_path / "out").exists()
