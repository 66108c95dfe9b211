"""SUNDAE configs: sizes, tiny forms, every one builds."""

import pytest

from launch import first_stages, tasks
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
  "sundae_folder.py:64,laptop": None,
}


# McKinney & Willcocks 2022 and their released configs: side of the grid, codes;
# layers, width, heads of 64; unrolls, batch, rate; steps, first and last
# temperature, proportion.
TABLE = {
  "sundae_ffhq256": (
    *(16, 1024, (2, 10, 2), 1024, 8),
    *(2, 64, 3e-5, 100, 0.8, 0.8, 0.5),
  ),
  "sundae_celeba256": (
    *(16, 1024, (2, 12, 2), 1024, 8),
    *(3, 48, 3e-5, 200, 0.8, 0.8, 0.5),
  ),
  "sundae_imagenet": (
    *(16, 1024, (2, 12, 2), 1024, 8),
    *(3, 192, 1e-6, 200, 0.8, 0.7, 0.7),
  ),
  "sundae_imagenet.py:large": (
    *(16, 1024, (2, 16, 2), 1024, 12),
    *(3, 128, 3e-5, 200, 0.8, 0.7, 0.7),
  ),
  "sundae_ffhq1024": (
    *(32, 8192, (2, 12, 2), 1024, 8),
    *(3, 10, 5e-6, 50, 1.0, 0.7, 0.5),
  ),
  "sundae_ffhq1024.py:3-10-3": (
    *(32, 8192, (3, 10, 3), 1024, 8),
    *(2, 16, 3e-5, 100, 0.7, 0.7, 0.5),
  ),
  "sundae_ffhq1024.py:2-14-2": (
    *(32, 8192, (2, 14, 2), 2048, 8),
    *(2, 8, 3e-5, 100, 0.7, 0.7, 0.5),
  ),
  "sundae_mnist": (
    *(28, 256, (2, 8, 2), 1024, 8),
    *(2, 8, 3e-5, 50, 0.9, 0.9, 1.0),
  ),
  "sundae_fashion_mnist": (
    *(28, 256, (2, 8, 2), 1024, 8),
    *(2, 8, 3e-5, 50, 0.9, 0.9, 1.0),
  ),
}
# AdamW at a constant rate and nothing else; what we offer besides is off.
OPTIMIZER = {
  "name": "adamw",
  "schedule": "constant",
  "warmup_steps": 0,
  "b1": 0.9,
  "b2": 0.999,
  "weight_decay": 0.01,
  "clip_norm": 0.0,
  "ema_decay": 0.0,
}


@pytest.mark.parametrize("name", TABLE)
def test_numbers_are_the_published_ones(name):
  config = forms.load(name)
  adapter = tasks.get("sundae")
  task = adapter.make_task(config, adapter.assumed(config))
  net, train, sample = task.model, config.train, config.sample
  side, _ = net.grid
  found = (
    *(side, net.num_codes, net.layers, net.shape.width, net.shape.num_heads),
    *(task.unrolls, train.batch_size, config.optimizer.peak, sample.steps),
    *(sample.temperature, sample.end_temperature, sample.proportion),
  )
  assert found == TABLE[name]
  assert net.grid == (side, side) and net.factors == ((2, 2),)
  assert net.shape.head_width == 64
  assert sample.end_proportion == sample.proportion
  assert sample.min_steps == 10
  assert {x: config.optimizer[x] for x in OPTIMIZER} == OPTIMIZER


@pytest.mark.parametrize(
  ("name", "stage"),
  [
    ("sundae_folder.py:64,laptop", "vqgan_folder.py:64,laptop"),
    ("sundae_ffhq256", "vqgan_ffhq"),
    ("sundae_celeba256", "vqgan_celeba_hq"),
    ("sundae_imagenet", "vqgan_imagenet"),
    ("sundae_ffhq1024", "vqgan_ffhq1024"),
    ("sundae_cifar10", "vqgan_cifar10"),
  ],
)
def test_first_stage_is_described_as_it_is_trained(name, stage):
  described, trained = forms.load(name), forms.load(stage)
  like = first_stages.reduced(described.tokenizer.like)
  for section, value in first_stages.reduced(trained).items():
    assert like[section] == value, section
  assert described.data.size == trained.data.size


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
    ("sundae_folder", "64"),
    ("sundae_folder", "64,laptop,small"),
  ],
)
def test_unknown_argument_lists_the_choices(name, arg):
  with pytest.raises(ValueError, match=r"must be"):
    forms.load(f"{name}.py:{arg}")


def test_every_sundae_config_is_tested():
  assert forms.shipped("sundae_") == forms.files(FULL)
