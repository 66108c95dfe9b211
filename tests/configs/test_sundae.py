"""SUNDAE configs: sizes, tiny forms, every one builds."""

import pytest

from tests.configs import forms

# Millions of parameters of the reference; None where nobody published them.
FULL = {
  "sundae_ffhq256": 178.4,
  "sundae_celeba256": 199.4,
  "sundae_imagenet": None,
  "sundae_imagenet.py:large": None,
  "sundae_ffhq1024": 214.1,
  "sundae_ffhq1024.py:3-10-3": None,
  "sundae_ffhq1024.py:2-14-2": None,
  "sundae_mnist": None,
  "sundae_fashion_mnist": None,
  "sundae_cifar10": None,
  "sundae_scenes": None,
  "sundae_folder": None,
}


@pytest.mark.parametrize("name", FULL)
def test_full_size_model_builds_with_the_published_count(name):
  config = forms.load(name)
  with config.unlocked():
    config.model.reference = True
  task, state = forms.abstract(config)
  count = forms.count(state.params)
  published = FULL[name]
  assert round(count / 1e6, 1) == published or published is None
  assert count > 1e6
  coded = config.data.source == "codes"
  spec = task.batch_spec(2)["codes" if coded else task.tokenizer.input]
  sides = [x * task.tokenizer.factor for x in task.model.grid]
  assert sides == list(config.data.size)
  assert list(spec.shape[1:3]) == (list(task.model.grid) if coded else sides)


@pytest.mark.parametrize("name", FULL)
def test_tiny_changes_only_numbers_and_the_dataset(name):
  assert not forms.misfits(name, ("data.", "tokenizer."))


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
    forms.load(f"{name}.py:{arg}")


def test_every_sundae_config_is_tested():
  assert forms.shipped("sundae_") == forms.files(FULL)
