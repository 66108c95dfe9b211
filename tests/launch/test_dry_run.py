"""Every config that ships describes its run, without data (promise P11)."""

import jax
import pytest

from launch import dry_run, flags, train
from training import sharding


@pytest.mark.parametrize("name", flags.shipped())
def test_every_config_has_a_dry_run(name, capsys):
  assert train.main([f"--config={name}", "--dry_run"]) == 0
  out = capsys.readouterr().out
  for heading in ("Config\n", "Parameters\n", "Batch of", "Work\n", "Memory a"):
    assert heading in out
  assert " parameters\n" in out


def test_a_batch_that_does_not_fit_the_devices_is_named():
  for field in ("train.batch_size", "eval.batch_size"):
    config = flags.load("configs/dct_scenes.py:tiny", [(field, "12")])
    said = dry_run.report(config).splitlines()[-1]
    assert f"Not on this machine: {field} 12 must be a multiple of 8" in said


def test_the_state_is_divided_among_devices():
  shapes = {"w": jax.ShapeDtypeStruct((1024, 64), "float32")}
  rule = sharding.FsdpRule()
  whole = sharding.make_mesh({"data": 8})
  split = sharding.make_mesh({"data": 2, "fsdp": 4})
  assert dry_run.bytes_per_device(shapes, whole, rule) == 4 * 1024 * 64
  assert dry_run.bytes_per_device(shapes, split, rule) == 1024 * 64
