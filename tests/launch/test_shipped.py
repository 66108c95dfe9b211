"""The weights that ship are worth shipping."""

import jax
import numpy as np
import pytest

from data import tfds
from launch import (
  demo_figures,
  demo_frame,
  demo_sundae,
  demo_vqgan,
  evaluate,
  first_stages,
  flags,
  request,
  sample,
  trained,
)
from training import sharding, trees


@pytest.mark.slow
def test_a_trained_model_beats_huffman_coding(tmp_path):
  # 200 pictures of the validation split, of which none was trained on, against
  # baseline JPEG with the same tables and its own Huffman codes.
  run = trained.open_trained("dct_scenes")
  mesh = sharding.make_mesh({"data": 1}, jax.devices()[:1])
  source = tfds.Tfds("scenes/64-8-200-0", "validation", str(tmp_path))
  assert len(source) == 200
  state = run.restore(mesh).state
  job = evaluate.Job(run, state, run.step, source, mesh, None)
  values = evaluate.METRICS["likelihood"](job)
  assert values["jpeg_quality"] == run.config.model.quality
  assert 0.3 < values["bits_over_jpeg"] < 0.75
  # What it is told of a picture's class is worth bits.
  dealt = evaluate.rates_of_dealt_labels(job)
  assert dealt["bits_per_pixel"] > 1.03 * values["bits_per_pixel"]


@pytest.mark.slow
def test_samples_of_the_trained_model_pass_the_bars_of_the_demo(tmp_path):
  run = trained.open_trained("dct_scenes")
  with run.config.unlocked():
    run.config.data.dir = str(tmp_path / "data")
  asked = request.from_config(run.config, temperature=0.9)
  sample.draw(run, asked, 128, tmp_path / "out", batch=64)
  drawn = sample.load(tmp_path / "out")
  read = lambda split: demo_frame.read(run.config, run.adapter, split)
  figures = demo_figures.of_samples(
    demo_figures.Pictures(drawn["image"], drawn["label"]),
    read(run.config.data.split),
    read(run.config.data.eval_split),
  )
  mean_length = float(run.measured["mean_length"])
  figures += demo_figures.of_lists(drawn, mean_length)
  assert len(figures) == 8
  missed = [figure.name for figure in figures if not figure.passed]
  assert not missed, demo_figures.table(figures)


@pytest.mark.slow
def test_the_first_stage_that_ships_passes_the_bars_of_the_demo(tmp_path):
  run = trained.open_trained("vqgan_scenes")
  mesh = sharding.make_mesh({"data": 1}, jax.devices()[:1])
  source = tfds.Tfds("scenes/64-8-200-0", "validation", str(tmp_path))
  state = run.restore(mesh).state
  job = evaluate.Job(run, state, run.step, source, mesh, None)
  values, real, made = demo_vqgan.measure(job)
  assert real.shape == made.shape == (200, 64, 64, 3)
  assert values["psnr_db"] >= 28 and values["colour_right"] >= 0.97
  assert values["codes_used"] >= 200 and values["codes_perplexity"] >= 100
  # As sharp as ten minutes of a discriminator make it.
  assert 0.5 < values["edges"] < 1.5


@pytest.mark.slow
def test_the_sundae_that_ships_passes_the_bars_of_the_demo(tmp_path):
  run = trained.open_trained("sundae_scenes")
  with run.config.unlocked():
    run.config.data.dir = str(tmp_path / "data")
  asked = request.from_config(run.config)
  sample.draw(run, asked, 128, tmp_path / "out", batch=32)
  drawn = sample.load(tmp_path / "out")
  read = lambda split: demo_frame.read(run.config, run.adapter, split)
  held_out = read(run.config.data.eval_split)
  figures = demo_figures.of_samples(
    demo_figures.Pictures(drawn["image"], drawn["label"]),
    read(run.config.data.split),
    held_out,
    colour=0.9,
  )
  missed = [figure.name for figure in figures if not figure.passed]
  assert not missed, demo_figures.table(figures)

  few = demo_figures.Pictures(held_out.images[:32], held_out.labels[:32])
  mesh = sharding.make_mesh({"data": 1}, jax.devices()[:1])
  state, draw = run.restore(mesh).state, jax.jit(run.task.sample)
  _, results, kept = demo_sundae.inpaint_halves(run, state, draw, few)
  made = demo_figures.Pictures(results[:, 0], few.labels)
  assert kept == 1.0 and demo_figures.colour_right(made) >= 0.9


def test_the_sundae_that_ships_is_the_one_of_its_config():
  config = flags.load("configs/sundae_scenes.py")
  shipped = trained.open_trained("sundae_scenes").config
  for section in ("model", "data", "tokenizer", "optimizer", "train", "sample"):
    assert shipped[section].to_dict() == config[section].to_dict(), section
  own = trained.open_trained("sundae_scenes").arrays
  stage = trees.flatten(first_stages.load("vqgan_scenes").params)
  held = trees.select(own, "frozen/tokenizer")
  assert held.keys() == stage.keys()
  for name, array in held.items():
    np.testing.assert_array_equal(array, stage[name], err_msg=name)


def test_the_first_stage_that_ships_is_the_one_of_its_config():
  config = flags.load("configs/vqgan_scenes.py")
  shipped = trained.open_trained("vqgan_scenes").config
  assert shipped.model.to_dict() == config.model.to_dict()
  # Nothing is seeded any more: its codes are there.
  trained_with = {**config.quantizer.to_dict(), "seed_codebook": False}
  assert shipped.quantizer.to_dict() == trained_with
  for name in ("prior_scenes", "sundae_scenes"):
    like = flags.load(f"configs/{name}.py").tokenizer.like
    assert like.model.to_dict() == config.model.to_dict()
    assert like.quantizer.to_dict() == config.quantizer.to_dict()
