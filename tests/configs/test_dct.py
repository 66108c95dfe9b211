"""DCTransformer configs: sizes, tiny forms, every one builds."""

import numpy as np
import pytest
from jax.sharding import AbstractMesh

from launch import tasks
from tests.configs import forms
from training import sharding

FULL = [
  "dct_imagenet",
  "dct_lsun.py:bedroom",
  "dct_lsun.py:tower",
  "dct_lsun.py:church_outdoor",
  "dct_ffhq",
  "dct_clevr",
  "dct_plant_leaves",
  "dct_diabetic_retinopathy",
  "dct_open_images",
  "dct_folder.py:64",
  "dct_folder.py:32,laptop",
  "dct_folder",
  "dct_scenes",
  "dct_scenes.py:luma",
]


@pytest.mark.parametrize("name", FULL)
def test_full_size_model_builds_abstractly(name):
  assert forms.count(forms.abstract(forms.load(name))[1].params) > 1e6


# Nash et al. 2021, table of model sizes.
@pytest.mark.parametrize(
  ("name", "published"), [("dct_lsun", 448e6), ("dct_imagenet", 738e6)]
)
def test_parameter_count_is_the_published_one(name, published):
  params = forms.abstract(forms.load(name))[1].params
  assert abs(forms.count(params) / published - 1) < 0.03


@pytest.mark.parametrize("name", ["dct_lsun", "dct_imagenet"])
def test_the_large_models_batches_fit_256_devices(name):
  config = forms.load(name)
  mesh = AbstractMesh((1, 256, 1), sharding.AXES)
  for section in (config.train, config.eval):
    assert sharding.check_batch(mesh, section.batch_size) is None
    with pytest.raises(ValueError, match="256 devices"):
      sharding.check_batch(mesh, section.batch_size + 128)


@pytest.mark.parametrize("name", FULL)
def test_tiny_changes_only_numbers_and_the_dataset(name):
  assert not forms.misfits(name)


@pytest.mark.parametrize("name", FULL)
def test_canvas_holds_the_resized_image(name):
  for config in (forms.load(name), forms.tiny(name)):
    model = config.model
    h, w = (model.block * side for side in (model.rows, model.cols))
    assert config.data.resize == max(h, w)
    adapter = tasks.get(config.task)
    encode = adapter.make_array_encode(config, {}, "image")
    record = {"image": np.zeros((h // 4, w // 4, 3), np.uint8)}
    assert encode(record, None)["image"].shape == (1, h, w, 3)
    assumed = tasks.measured_or_assumed(adapter, config)
    adapter.make_array_encode(config, assumed, "train")


@pytest.mark.parametrize(
  ("name", "arg"),
  [
    ("dct_imagenet", "tinny"),
    ("dct_lsun", "bathroom"),
    ("dct_folder", "33"),
    ("dct_scenes", "luma,small"),
  ],
)
def test_unknown_argument_lists_the_choices(name, arg):
  with pytest.raises(ValueError, match=r"must be|one of"):
    forms.load(f"{name}.py:{arg}")


def test_every_dct_config_is_tested():
  assert forms.shipped("dct_") == forms.files(FULL)
