"""VQGAN configs: sizes, tiny forms, every one builds."""

import pytest

from launch import tasks
from tests.configs import forms

# Parameters of the autoencoder; None where nobody published a number.
FULL = {
  "vqgan_imagenet": 72_141_699,
  "vqgan_imagenet.py:16384": 76_073_859,
  "vqgan_imagenet.py:f8": None,
  "vqgan_ffhq": 72_141_699,
  "vqgan_celeba_hq": 72_141_699,
  "vqgan_faces": 72_141_699,
  "vqgan_ffhq1024": 75_407_235,
  "vqgan_ade20k_segmentation": None,
  "vqgan_coco_segmentation": None,
  "vqgan_depth": None,
  "vqgan_open_images": None,
  "vqgan_folder": None,
  "vqgan_folder.py:64": None,
  "vqgan_scenes": None,
  "vqgan_scenes.py:vqvae": None,
}


@pytest.mark.parametrize("name", FULL)
def test_full_size_model_builds_with_the_published_count(name):
  config = forms.load(name)
  _, state = forms.abstract(config)
  count = forms.count(state.params["generator"])
  assert count == FULL[name] or (FULL[name] is None and count > 1e6)
  assert ("discriminator" in state.params) == bool(config.adversary.weight)


@pytest.mark.parametrize("name", FULL)
def test_tiny_changes_only_numbers_and_the_dataset(name):
  assert not forms.misfits(name)
  made = tasks.get("vqgan")
  assert made.make_task(forms.tiny(name), {}).size == (32, 32)
  assert forms.load(name).data.target == forms.tiny(name).data.target


@pytest.mark.parametrize("name", FULL)
def test_no_field_is_set_in_vain(name):
  for config in (forms.load(name), forms.tiny(name)):
    assert tasks.get("vqgan").remarks(config) == []


@pytest.mark.parametrize(
  ("name", "arg"),
  [
    ("vqgan_imagenet", "tinny"),
    ("vqgan_folder", "33"),
    ("vqgan_scenes", "vqvae,small"),
  ],
)
def test_unknown_argument_lists_the_choices(name, arg):
  with pytest.raises(ValueError, match=r"must be|one of"):
    forms.load(f"{name}.py:{arg}")


def test_unknown_quantizer_lists_the_choices():
  config = forms.load("vqgan_scenes.py:tiny")
  with config.unlocked():
    config.quantizer.name = "nearst"
  with pytest.raises(ValueError, match="nearest, average, unit, gumbel"):
    tasks.get("vqgan").make_task(config, {})


def test_every_vqgan_config_is_tested():
  assert forms.shipped("vqgan_") == forms.files(FULL)
