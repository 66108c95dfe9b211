"""SUNDAE configs: sizes, tiny forms, every one builds."""

import math

import jax
import pytest

from launch import dry_run, flags, tasks

# Millions of parameters of the reference; None where nobody published them.
_FULL = {
  "sundae_ffhq256": 178.4,
  "sundae_celeba256": 199.4,
  "sundae_imagenet": None,
  "sundae_imagenet.py:large": None,
  "sundae_ffhq1024": 214.1,
  "sundae_ffhq1024.py:3-10-3": None,
  "sundae_ffhq1024.py:2-14-2": None,
  "sundae_mnist": None,
  "sundae_fashion_mnist": None,
  "sundae_scenes": None,
  "sundae_folder": None,
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
  with config.unlocked():
    config.model.reference = True
  adapter = tasks.get(config.task)
  measured = tasks.measured_or_assumed(adapter, config)
  task = adapter.make_task(config, measured)
  state = dry_run.abstract_state(task, measured)
  count = sum(math.prod(x.shape) for x in jax.tree.leaves(state.params))
  published = _FULL[name]
  assert round(count / 1e6, 1) == published or published is None
  assert count > 1e6
  spec = task.batch_spec(2)[task.tokenizer.input]
  sides = [x * task.tokenizer.factor for x in task.model.grid]
  assert list(spec.shape[1:3]) == sides == list(config.data.size)


@pytest.mark.parametrize("name", _FULL)
def test_tiny_changes_only_numbers_and_the_dataset(name):
  full, tiny = (dict(flags.flatten(x(name))) for x in (_load, _tiny))
  assert set(full) == set(tiny)
  for field, value in tiny.items():
    # The first stage belongs to the dataset.
    if value == full[field] or field.split(".")[0] in ("data", "tokenizer"):
      continue
    numbers = value if isinstance(value, tuple) else (value,)
    assert all(type(x) in (int, float) for x in numbers), field
    assert type(value) is type(full[field]), field


@pytest.mark.parametrize(
  ("name", "arg"),
  [
    ("sundae_ffhq256", "tinny"),
    ("sundae_ffhq1024", "2-12-3"),
    ("sundae_imagenet", "large,small"),
  ],
)
def test_unknown_argument_lists_the_choices(name, arg):
  with pytest.raises(ValueError, match=r"must be"):
    _load(f"{name}.py:{arg}")


def test_every_sundae_config_is_tested():
  shipped = {x.split("/")[1] for x in flags.shipped() if "/sundae_" in x}
  assert shipped == {f"{name.partition('.py')[0]}.py" for name in _FULL}
