"""Every config that ships describes its run, without data (promise P11)."""

import jax
import pytest

from launch import dry_run, flags, tasks, train
from training import sharding


@pytest.mark.parametrize("name", flags.shipped())
def test_every_config_has_a_dry_run(name, capsys):
  assert train.main([f"--config={name}", "--dry_run"]) == 0
  out = capsys.readouterr().out
  for heading in ("Config\n", "Parameters\n", "Batch of", "Work\n", "Memory a"):
    assert heading in out
  assert " parameters\n" in out


def test_a_discriminator_that_would_have_no_logit_is_refused(capsys):
  command = ["--config=configs/vqgan_scenes.py:tiny", "--dry_run"]
  assert train.main([*command, "--config.adversary.num_layers=4"]) == 1
  said = "images of 32x32 leave a discriminator of 4 layers no logit: set "
  error = capsys.readouterr().err
  assert said + "--config.adversary.num_layers=3" in error
  assert error.count("\n") == 1


def test_a_run_whose_discriminator_had_no_logit_is_opened():
  name, field = "configs/vqgan_scenes.py:tiny", "adversary.num_layers"
  config = flags.load(name, [(field, "4")])
  adapter = tasks.get(config.task)
  task = adapter.make_task(config, adapter.assumed(config))
  with pytest.raises(ValueError, match="discriminator of 4 layers no logit"):
    adapter.check_training(config, task)


def test_a_batch_that_does_not_fit_the_devices_is_named():
  for field in ("train.batch_size", "eval.batch_size"):
    config = flags.load("configs/dct_scenes.py:tiny", [(field, "12")])
    said = dry_run.report(config).splitlines()[-1]
    assert f"Not on this machine: {field} 12 must be a multiple of 8" in said


@pytest.mark.parametrize(
  ("name", "size", "peak"),
  [
    ("vqgan_imagenet", 16, 7.2e-5),
    ("vqgan_ffhq", 8, 3.6e-5),
    ("vqgan_celeba_hq", 8, 3.6e-5),
    ("vqgan_faces", 8, 3.6e-5),
    ("vqgan_ade20k_segmentation", 16, 7.2e-5),
  ],
)
def test_overrides_that_a_batch_asks_for_work_and_keep_the_rate_an_image(
  name, size, peak
):
  name = f"configs/{name}.py"
  said = dry_run.report(flags.load(name)).splitlines()[-1]
  assert "Not on this machine: train.batch_size" in said
  words = [word for word in said.split() if word.startswith("--config.")]
  rest, overrides = flags.split_overrides(words)
  config = flags.load(name, overrides)
  assert not rest
  assert "Not on this machine" not in dry_run.report(config)
  assert config.train.batch_size == size
  assert config.optimizer.peak == pytest.approx(peak)
  given = {field for field, _ in overrides}
  assert ("adversary.peak" in given) == bool(config.adversary.weight)
  if config.adversary.weight:
    assert config.adversary.peak == pytest.approx(peak)


@pytest.mark.parametrize(
  "name", ["prior_imagenet", "prior_ade20k_segmentation"]
)
def test_the_rate_of_a_prior_follows_its_batch(name):
  fields = [("train.batch_size", "12"), ("optimizer.peak", "5.4e-5")]
  config = flags.load(f"configs/{name}.py", fields)
  said = dry_run.report(config).splitlines()[-1]
  overrides = "--config.train.batch_size=16 --config.optimizer.peak=7.2e-05"
  assert f"{overrides} (these rates are so much an image of the batch)" in said


def test_rates_that_somebody_chose_are_not_scaled():
  for name in ("vqgan_folder", "dct_scenes", "prior_folder"):
    fields = [("train.batch_size", "12"), ("eval.batch_size", "12")]
    said = dry_run.report(flags.load(f"configs/{name}.py", fields))
    last = said.splitlines()[-1]
    assert "--config.train.batch_size=16 --config.eval.batch_size=16" in last
    assert ".peak" not in last


def test_the_state_is_divided_among_devices():
  shapes = {"w": jax.ShapeDtypeStruct((1024, 64), "float32")}
  rule = sharding.FsdpRule()
  whole = sharding.make_mesh({"data": 8})
  split = sharding.make_mesh({"data": 2, "fsdp": 4})
  assert dry_run.bytes_per_device(shapes, whole, rule) == 4 * 1024 * 64
  assert dry_run.bytes_per_device(shapes, split, rule) == 1024 * 64
