"""What second stages stand on: tokenizers found, kept, compared, refused."""

import json
import shutil

import jax
import ml_collections
import numpy as np
import pytest

from data import arrays as data_arrays
from data import codes as codes_lib
from launch import datasets, errors, first_stages, flags, tasks, trained
from launch.adapters import codes
from tests.launch import tiny_stage
from training import sharding
from vqgan import tokenizer

SIZE = (16, 24)


def _config(**changes):
  """The sections of a second stage that the seam reads."""
  config = ml_collections.ConfigDict(
    {
      "seed": 0,
      "data": {
        "source": "arrays",
        "dir": "",
        "split": "train",
        "eval_split": "validation",
        "size": SIZE,
        "zoom": 1.0,
        "flip": True,
      },
      "tokenizer": {"weights": ""},
      "train": {"batch_size": 8},
      "eval": {"batch_size": 8},
    }
  )
  config.tokenizer.like = tiny_stage.config()
  config.update(changes)
  return config


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
  """Exported weights of a first stage with random parameters."""
  return tiny_stage.write(tmp_path_factory.mktemp("weights"))


def _write_codes(folder, weights, count=8, **changes):
  """A folder of codes as launch.tokenize leaves it."""
  stage = first_stages.load(weights)
  first_stages.save(stage, codes_lib.tokenizer_path(str(folder)))
  random = np.random.RandomState(1)
  described = {
    "version": codes_lib.VERSION,
    "tokenizer": stage.fingerprint(),
    "num_codes": 16,
    "grid": (8, 12),
    "factor": 2,
    "zoom": 1.0,
    "flips": False,
    "shards": [count],
    "fields": ["codes"],
    "class_names": [],
    "source_fingerprint": "f",
    **changes,
  }
  for split in ("train", "validation"):
    columns = {
      "codes": random.randint(0, 16, (count, *described["grid"])),
      "label": np.zeros(count),
    }
    codes_lib.write_shard(folder / split, 0, columns)
    text = json.dumps(described)
    (folder / split / codes_lib.DESCRIPTION).write_text(text)


def test_measured_holds_all_that_a_tokenizer_needs(weights):
  config = _config()
  config.tokenizer.weights = weights
  measured = codes.measure(config)
  assert {x.dtype.kind for x in measured.values()} <= {"f", "u"}
  config.tokenizer.weights = "gone"
  coder, params = codes.make_tokenizer(config, measured), codes.frozen(measured)
  assert coder.grid == (8, 12) and coder.factor == 2 and coder.width == 3
  assert codes.fingerprint(measured) == coder.fingerprint(params)
  spec = codes.batch_spec(config, measured, 2)
  assert spec["image"].shape == (2, *SIZE, 3)
  image = np.random.RandomState(2).randint(0, 256, (2, *SIZE, 3), np.uint8)
  found = jax.jit(tokenizer.read, static_argnums=0)(
    coder, params, {"image": image}
  )
  assert found.shape == (2, 8, 12) and len(np.unique(found)) > 1
  again = tokenizer.read(coder, params, {"codes": np.uint16(found)})
  np.testing.assert_array_equal(again, found)
  assert again.dtype == found.dtype


def test_tokenizers_compute_in_float32_whatever_a_run_did(weights):
  stage = first_stages.load(weights)
  for dtype in ("float32", "bfloat16"):
    config = tiny_stage.config()
    config.train.dtype = dtype
    coder = first_stages.make_tokenizer(first_stages.reduced(config))
    assert coder.task.model.dtype == np.float32
    assert coder.fingerprint(stage.params) == stage.fingerprint()


def test_dry_runs_need_no_weights():
  config = _config()
  config.tokenizer.weights = "gone"
  blank = codes.assumed(config)
  assert codes.make_tokenizer(config, blank).num_codes == 16
  assert not any(x.any() for x in jax.tree.leaves(codes.frozen(blank)))
  with pytest.raises(errors.CommandError, match="no trained weights 'gone'"):
    codes.measure(config)
  config.tokenizer.weights = ""
  with pytest.raises(errors.CommandError, match="weights is empty"):
    codes.measure(config)


def test_codes_bring_their_tokenizer_and_refuse_others(weights, tmp_path):
  _write_codes(tmp_path / "mine", weights)
  _write_codes(tmp_path / "other", weights, tokenizer="0" * 16)
  _write_codes(tmp_path / "small", weights, grid=(8, 8))
  config = _config()
  config.data.source, config.data.dir = "codes", str(tmp_path / "mine")
  measured = codes.measure(config)
  mesh = sharding.make_mesh({"data": -1})
  source = datasets.open_source(config, "train")
  batches = datasets.train_batches(config, codes, measured, source, mesh, 0)
  assert next(batches)["codes"].shape == (8, 8, 12)
  assert "codes" in codes.batch_spec(config, measured, 8)
  config.data.dir = str(tmp_path / "other")
  other = datasets.open_source(config, "train")
  mine = codes.fingerprint(measured)
  with pytest.raises(
    errors.CommandError, match=f"{'0' * 16}, this run is of {mine}"
  ):
    next(datasets.train_batches(config, codes, measured, other, mesh, 0))
  with pytest.raises(errors.CommandError, match=f"this run is of {mine}"):
    codes.measure(config)
  config.data.dir = str(tmp_path / "small")
  with pytest.raises(errors.CommandError, match=r"data.size=\(16, 16\)"):
    codes.measure(config)


def test_codes_without_their_tokenizer_say_how_to_name_it(weights, tmp_path):
  _write_codes(tmp_path, weights)
  config = _config()
  config.data.source, config.data.dir = "codes", str(tmp_path)
  codes.measure(config)
  shutil.rmtree(codes_lib.tokenizer_path(str(tmp_path)).parent)
  with pytest.raises(errors.CommandError, match="no tokenizer beside its"):
    codes.measure(config)
  config.tokenizer.weights = weights
  assert codes.measure(config)


@pytest.mark.parametrize("name", ["sundae_ffhq256", "prior_imagenet"])
def test_run_says_that_codes_hold_no_mirror_images(name, weights, tmp_path):
  _write_codes(tmp_path / "plain", weights)
  _write_codes(tmp_path / "flipped", weights, flips=True)

  def remarks(folder, *more):
    fields = [("data.source", "codes"), ("data.dir", str(tmp_path / folder))]
    config = flags.load(f"configs/{name}.py", [*fields, *more])
    return tasks.get(config.task).remarks(config)

  (found,) = remarks("plain")
  assert found.startswith("data.flip has no effect") and "--flips" in found
  assert "\n" not in found
  assert remarks("flipped") == []
  assert remarks("plain", ("data.flip", "False")) == []
  assert remarks("absent") == []  # a dry run
  (found,) = remarks("flipped", ("model.class_drop", "0.1"))
  assert "class_drop" in found


def test_codes_are_shown_as_what_they_decode_to(weights, tmp_path):
  _write_codes(tmp_path, weights)
  config = _config()
  config.data.source, config.data.dir = "codes", str(tmp_path)
  source = datasets.open_source(config, "validation")
  batch = next(iter(datasets.image_batches(config, codes, source, 4)))
  measured = codes.measure(config)
  coder, params = codes.make_tokenizer(config, measured), codes.frozen(measured)
  records = source.read(np.arange(4))
  made = coder.decode(params, np.stack([x["codes"] for x in records]))
  difference = batch["image"].astype(int) - np.asarray(made)
  assert np.abs(difference).max() <= 1 and batch["image"].std() > 0


def test_a_palette_is_fitted_and_found_again(tmp_path):
  config = _config()
  config.tokenizer.like = ml_collections.ConfigDict(
    {"task": "palette", "num_codes": 8}
  )
  image = np.random.RandomState(0).randint(0, 256, (4, *SIZE, 3), np.uint8)
  batch = {"image": image, "mask": np.array([True, True, False, True])}
  measured = codes.measure(config, [batch])
  assert measured["tokenizer/palette"].shape == (8, 3)
  stage = codes.fit_palette(8, [batch], config.seed)
  first_stages.save(stage, tmp_path / "colours")
  again = first_stages.load(str(tmp_path / "colours"))
  assert again.fingerprint() == codes.fingerprint(measured)
  source = data_arrays.Arrays(image)
  for use in ("train", "eval"):
    encode = codes.make_array_encode(config, measured, use)
    (record,) = source.read(np.array([0]))
    row = encode({**record, "example_id": 0}, np.array([1, 2]))
    assert row["image"].shape == (1, *SIZE, 3)


def test_pixels_need_nothing():
  config = _config()
  config.tokenizer.like = ml_collections.ConfigDict({"task": "pixels"})
  measured = codes.measure(config)
  coder = codes.make_tokenizer(config, measured)
  assert codes.frozen(measured) == {} and coder.grid == SIZE
  assert codes.batch_spec(config, measured, 2)["image"].shape == (2, *SIZE, 1)
  config.tokenizer.like = ml_collections.ConfigDict({"task": "dctransformer"})
  with pytest.raises(errors.CommandError, match="has no codes"):
    codes.make_tokenizer(config, {})


def test_weights_of_another_task_are_refused():
  name = next(x for x in trained.shipped() if x.startswith("dct"))
  with pytest.raises(errors.CommandError, match="dctransformer, which has no"):
    first_stages.load(name)
