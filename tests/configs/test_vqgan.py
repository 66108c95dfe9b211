"""VQGAN configs: sizes, tiny forms, every one builds."""

import math

import jax
import pytest

from launch import dry_run, flags, tasks

# Parameters of the autoencoder; None where nobody published a number.
_FULL = {
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


def _load(name):
  return flags.load(
    f"configs/{name}" if ".py" in name else f"configs/{name}.py"
  )


def _tiny(name):
  stem, _, arg = name.partition(".py:")
  return _load(f"{stem}.py:{arg},tiny" if arg else f"{stem}.py:tiny")


@pytest.mark.parametrize("name", _FULL)
def test_full_size_model_builds_with_the_published_count(name):
  config = _load(name)
  adapter = tasks.get(config.task)
  measured = tasks.measured_or_assumed(adapter, config)
  task = adapter.make_task(config, measured)
  state = dry_run.abstract_state(task, measured)
  leaves = jax.tree.leaves(state.params["generator"])
  count = sum(math.prod(leaf.shape) for leaf in leaves)
  assert count == _FULL[name] or (_FULL[name] is None and count > 1e6)
  assert ("discriminator" in state.params) == bool(config.adversary.weight)


@pytest.mark.parametrize("name", _FULL)
def test_tiny_changes_only_numbers_and_the_dataset(name):
  full, tiny = (dict(flags.flatten(x(name))) for x in (_load, _tiny))
  assert set(full) == set(tiny)
  for field, value in tiny.items():
    if value == full[field] or field.startswith("data."):
      continue
    numbers = value if isinstance(value, tuple) else (value,)
    assert all(type(x) in (int, float) for x in numbers), field
    assert type(value) is type(full[field]), field
  made = tasks.get("vqgan")
  assert made.make_task(_tiny(name), {}).size == (32, 32)
  assert full["data.target"] == tiny["data.target"]


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
    _load(f"{name}.py:{arg}")


def test_unknown_quantizer_lists_the_choices():
  config = _load("vqgan_scenes.py:tiny")
  with config.unlocked():
    config.quantizer.name = "nearst"
  with pytest.raises(ValueError, match="nearest, average, unit, gumbel"):
    tasks.get("vqgan").make_task(config, {})


def test_every_vqgan_config_is_tested():
  shipped = {x.split("/")[1] for x in flags.shipped() if "/vqgan_" in x}
  assert shipped == {f"{name.partition('.py')[0]}.py" for name in _FULL}
