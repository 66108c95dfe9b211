"""Fields of a first stage's config that decide nothing: refused, or said."""

import re

import pytest

from launch import dry_run, errors, flags, tasks
from launch.adapters import vqgan


def _config(name="vqgan_scenes.py:tiny", **fields):
  overrides = [(x.replace("__", "."), str(y)) for x, y in fields.items()]
  return flags.load(f"configs/{name}", overrides)


def test_levels_of_a_finite_quantizer_decide_its_sizes():
  finite = {"quantizer__name": "finite", "quantizer__levels": "(5, 4)"}
  for codes, width in ((0, 0), (20, 2), (0, 2)):
    made = vqgan.make_model(
      _config(**finite, quantizer__num_codes=codes, quantizer__width=width)
    ).quantizer
    assert (made.num_codes, made.width) == (20, 2)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    (
      {"quantizer__name": "finite", "quantizer__width": 0},
      r"num_codes 256 must be 0 or the 64000 .*quantizer.num_codes=0",
    ),
    (
      {"quantizer__name": "finite", "quantizer__num_codes": 0},
      r"width 8 must be 0 or the 6 ",
    ),
    (
      {"quantizer__name": "finite", "quantizer__levels": "(4, 2)"},
      r"levels \(4, 2\) must be numbers of at least 3",
    ),
    (
      {"quantizer__name": "gumbel", "quantizer__temperature__end": 0},
      "from start 0.9 to end 0.0: both above 0",
    ),
    ({"quantizer__num_codes": 0}, "num_codes 0 must be at least 1"),
    ({"quantizer__width": 0}, "width 0 must be at least 1"),
    ({"quantizer__dead_after": 0}, "dead_after 0 must be at least 1"),
    ({"data__target": "segmentation"}, "num_labels 0 must be at least 1"),
  ],
)
def test_what_contradicts_itself_is_refused(fields, message):
  config = _config("vqgan_scenes.py", **fields)
  with pytest.raises(errors.CommandError, match=message) as found:
    tasks.get("vqgan").make_task(config, {})
  assert "\n" not in str(found.value)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"adversary__loss": "wasserstein"}, "hinge, vanilla"),
    ({"adversary__augment": "('colour',)"}, "color, translation"),
    ({"adversary__start": -1}, "adversary.start -1 must be at least 0"),
    ({"adversary__warmup": -1}, "adversary.warmup -1"),
    ({"adversary__weight": -0.5}, "adversary.weight -0.5"),
    ({"adversary__r1_every": 0}, "adversary.r1_every 0 must be at least 1"),
    ({"adversary__lecam_decay": 1}, "lecam_decay 1.0 must be at least 0 and"),
    (
      {"data__target": "segmentation", "data__num_labels": 5},
      "adversary.weight 0.8: a discriminator .* --config.adversary.weight=0",
    ),
  ],
)
def test_a_discriminator_that_cannot_be_is_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    tasks.get("vqgan").make_task(_config(**fields), {})


@pytest.mark.parametrize(
  ("fields", "remark"),
  [
    ({"quantizer__kl_weight": 1}, "kl_weight 1.0 has no effect while quant"),
    ({"quantizer__temperature__end": 0.5}, "quantizer.temperature.end 0.5"),
    ({"quantizer__levels": "(3, 3)"}, r"levels \(3, 3\) has no effect while"),
    ({"quantizer__name": "gumbel"}, "beta 0.01 .* quantizer.name is 'gumbel'"),
    (
      {"quantizer__name": "gumbel", "quantizer__temperature__steps": 999},
      "steps 999 is more than train.num_steps",
    ),
    ({"quantizer__name": "nearest"}, "quantizer.decay 0.95 has no effect"),
    ({"data__num_labels": 7}, "num_labels 7 .* data.target is 'image'"),
    ({"data__label_shift": 1}, "data.label_shift 1 has no effect"),
    ({"data__target": "depth", "data__channels": 1}, "data.channels 1 has no"),
    ({"loss__lpips_heads": "x"}, "'x' has no effect while loss.perceptual is"),
    ({"adversary__r1_every": 4}, "r1_every 4 .* while adversary.r1 is 0.0"),
    ({"adversary__lecam_decay": 0.9}, "lecam_decay 0.9 .* adversary.lecam is"),
    (
      {"quantizer__name": "unit", "quantizer__width": 33},
      "quantizer.width 33 is wide for directions: .* about 8",
    ),
    ({"optimizer__schedule": "constant"}, "optimizer.final 0.1 has no effect"),
    ({"optimizer__name": "sgd", "optimizer__b2": 0.5}, "optimizer.b2 0.5"),
    ({"model__attention": "(16, 15)"}, "attention 15 is at no level: .*32, 16"),
    ({"adversary__start": 60}, "start 60 is not before train.num_steps 60"),
    (
      {"adversary__start": 40, "adversary__warmup": 20},
      "start 40 and adversary.warmup 20 leave none",
    ),
  ],
)
def test_what_decides_nothing_is_remarked_on_in_a_line(fields, remark):
  config = _config(**fields)
  tasks.get("vqgan").make_task(config, {})
  found = vqgan.remarks(config)
  matching = [line for line in found if re.search(remark, line)]
  assert len(matching) == 1 and "\n" not in matching[0]


def test_label_maps_do_not_read_the_error_of_images():
  fields = {"data__target": "segmentation", "data__num_labels": 25}
  found = vqgan.remarks(_config(**fields))
  assert any("loss.pixel 'l2' has no effect" in line for line in found)


def test_nothing_is_said_of_a_discriminator_that_is_not_asked_for():
  fields = {"adversary__start": 99, "adversary__r1_every": 3}
  assert not vqgan.remarks(_config("vqgan_scenes.py:vqvae,tiny", **fields))


def test_narrow_directions_are_not_remarked_on():
  found = vqgan.remarks(_config(quantizer__name="unit", quantizer__width=32))
  assert not any("is wide" in line for line in found)


def test_the_decay_of_lecam_is_that_of_the_config():
  config = _config(adversary__lecam=0.1, adversary__lecam_decay=0.5)
  assert vqgan.make_adversary(config).lecam_decay == 0.5
  with config.unlocked():
    del config.adversary.lecam_decay
  assert vqgan.make_adversary(config).lecam_decay == 0.99


def test_a_dry_run_tells_them_too():
  report = dry_run.report(_config(quantizer__kl_weight=1))
  assert "\nNote: quantizer.kl_weight 1.0 has no effect" in report
