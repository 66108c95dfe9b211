"""DCTransformer configs: sizes, tiny forms, every one builds."""

import jax
import numpy as np
import pytest

from launch import dry_run, flags, tasks

_FULL = [
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


def _load(name):
  stem, _, arg = name.partition(".py:")
  return flags.load(f"configs/{stem}.py:{arg}" if arg else f"configs/{stem}.py")


def _tiny(name):
  stem, _, arg = name.partition(".py:")
  return _load(f"{stem}.py:{arg},tiny" if arg else f"{stem}.py:tiny")


def _num_params(config):
  adapter = tasks.get(config.task)
  measured = tasks.measured_or_assumed(adapter, config)
  task = adapter.make_task(config, measured)
  state = dry_run.abstract_state(task, measured)
  return sum(x.size for x in jax.tree.leaves(state.params))


@pytest.mark.parametrize("name", _FULL)
def test_full_size_model_builds_abstractly(name):
  assert _num_params(_load(name)) > 1e6


# Nash et al. 2021, table of model sizes.
@pytest.mark.parametrize(
  ("name", "published"), [("dct_lsun", 448e6), ("dct_imagenet", 738e6)]
)
def test_parameter_count_is_the_published_one(name, published):
  assert abs(_num_params(_load(name)) / published - 1) < 0.03


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


@pytest.mark.parametrize("name", _FULL)
def test_canvas_holds_the_resized_image(name):
  for config in (_load(name), _tiny(name)):
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
    _load(f"{name}.py:{arg}")


def test_every_dct_config_is_tested():
  shipped = {x.split("/")[1] for x in flags.shipped() if "/dct_" in x}
  assert shipped == {f"{name.partition('.py')[0]}.py" for name in _FULL}
