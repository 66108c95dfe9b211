"""VQGAN configs: sizes, tiny forms, every one builds."""

import pytest

from launch import flags, tasks
from tests.configs import forms
from training import optimizer

# Parameters of the autoencoder; None where nobody published a number.
FULL = {
  "vqgan_imagenet": 72_141_699,
  "vqgan_imagenet.py:16384": 76_073_859,
  "vqgan_imagenet.py:f8": None,
  "vqgan_imagenet.py:legacy": 72_141_699,
  "vqgan_imagenet.py:16384,legacy": 76_073_859,
  "vqgan_imagenet.py:f8,legacy": None,
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
  "vqgan_folder.py:64,laptop": None,
  "vqgan_cifar10": None,
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


def test_megapixel_stage_is_that_of_its_authors():
  config = forms.load("vqgan_ffhq1024")
  _, state = forms.abstract(config)
  millions = {
    name: round(forms.count(part) / 1e6, 1)
    for name, part in state.params["generator"].items()
  }
  assert (millions["encoder"], millions["decoder"]) == (27.7, 45.5)
  loss, adversary = config.loss, config.adversary
  assert (loss.perceptual, loss.pixel, loss.codebook) == (1.0, "l1", 1.0)
  assert (adversary.weight, adversary.start) == (0.5, 15_000)
  for rate in (config.optimizer.peak, adversary.peak):
    assert rate / config.train.batch_size == pytest.approx(5e-6)
  assert config.optimizer.schedule == adversary.schedule == "constant"
  assert (config.quantizer.num_codes, config.quantizer.width) == (8192, 256)


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
    ("vqgan_folder", "128,laptop"),
    ("vqgan_folder", "laptop"),
    ("vqgan_imagenet", "legacy,f8"),
    ("vqgan_scenes", "vqvae,small"),
  ],
)
def test_unknown_argument_lists_the_choices(name, arg):
  with pytest.raises(ValueError, match=r"must be|one of"):
    forms.load(f"{name}.py:{arg}")


def _optimisers(monkeypatch, config):
  """The settings of the autoencoder's and the discriminator's optimiser."""
  asked = []
  with monkeypatch.context() as patch:
    patch.setattr(optimizer, "make", lambda **fields: asked.append(fields))
    tasks.get("vqgan").make_task(config, {})
  return sorted(asked, key=lambda fields: -fields["total_steps"])


def test_both_rates_of_a_folder_end_at_zero_with_the_run(monkeypatch):
  config = forms.load("vqgan_folder")
  names = ("peak", "warmup_steps", "total_steps", "schedule", "final")
  lengths = []
  for fields in _optimisers(monkeypatch, config):
    rate = optimizer.make_schedule(**{name: fields[name] for name in names})
    total = fields["total_steps"]
    assert rate(total) == 0 < rate(total - 99) < rate(total // 2) < rate(500)
    assert rate(500) == pytest.approx(1e-4) and rate(0) < 1e-6
    lengths.append(total)
  steps = config.train.num_steps
  assert lengths == [steps, steps - config.adversary.start]


@pytest.mark.parametrize("form", ["256", "128", "64", "64,laptop"])
def test_rates_of_a_folder_are_low_once_the_discriminator_has_begun(
  monkeypatch, form
):
  config = forms.load(f"vqgan_folder.py:{form}")
  names = ("peak", "warmup_steps", "total_steps", "schedule", "final")
  fields = _optimisers(monkeypatch, config)
  rates = [
    optimizer.make_schedule(**{name: x[name] for name in names}) for x in fields
  ]
  asked = [x["peak"] for x in fields]
  start = config.adversary.start
  autoencoder = rates[asked.index(config.optimizer.peak)]
  for step in (start, start + 1000, config.train.num_steps):
    assert autoencoder(step) <= 1.0001e-4
  assert config.adversary.peak <= 1e-4


@pytest.mark.parametrize("form", ["", "16384,", "f8,"])
def test_legacy_is_what_the_authors_did(form):
  ours = dict(flags.flatten(forms.load(f"vqgan_imagenet.py:{form[:-1]}")))
  theirs = dict(flags.flatten(forms.load(f"vqgan_imagenet.py:{form}legacy")))
  expected = {
    "data.flip": False,
    "quantizer.seed_codebook": False,
    "quantizer.restart": False,
    "adversary.same_forward": False,
    "train.dtype": "float32",
  }
  if form != "f8,":  # of Gumbel's quantizer they are what they were
    expected["quantizer.legacy"] = True
  assert {x: theirs[x] for x in theirs if theirs[x] != ours[x]} == expected
  task = tasks.get("vqgan").make_task(
    forms.load(f"vqgan_imagenet.py:{form}legacy,tiny"), {}
  )
  assert not (task.seed_codebook or task.adversary.same_forward)
  assert not task.model.quantizer.restart


def test_moments_decay_and_clipping_are_of_both_optimisers(monkeypatch):
  config = forms.load("vqgan_scenes")
  with config.unlocked():
    config.optimizer.update(
      {"name": "adamw", "b1": 0.4, "b2": 0.8, "clip_norm": 2.0}
    )
    config.optimizer.weight_decay = 0.1
  both = _optimisers(monkeypatch, config)
  for name in ("name", "b1", "b2", "weight_decay", "clip_norm"):
    assert [x[name] for x in both] == [config.optimizer[name]] * 2
  assert both[0]["peak"] != both[1]["peak"]


def test_unknown_quantizer_lists_the_choices():
  config = forms.load("vqgan_scenes.py:tiny")
  with config.unlocked():
    config.quantizer.name = "nearst"
  with pytest.raises(ValueError, match="nearest, average, unit, gumbel"):
    tasks.get("vqgan").make_task(config, {})


def test_every_vqgan_config_is_tested():
  assert forms.shipped("vqgan_") == forms.files(FULL)
