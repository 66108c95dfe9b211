"""Configs of priors: the published sizes, tiny forms, every one builds."""

import pytest

from launch import tasks
from tests.configs import forms

# Millions of parameters (Esser et al. 2021, Table 8), and tokens of the
# condition; None where nobody published a number.
FULL = {
  "prior_imagenet": (307, 0),
  "prior_imagenet_class": (307, 0),
  "prior_imagenet_class.py:1.4B": (1400, 0),
  "prior_imagenet_edges": (307, 256),
  "prior_imagenet_lowres": (153, 256),
  "prior_rin": (85, 0),
  "prior_rin_class": (128, 0),
  "prior_rin_depth": (180, 256),
  "prior_rin_depth.py:large": (307, 256),
  "prior_ffhq": (355, 0),
  "prior_ffhq.py:801M": (801, 0),
  "prior_celeba_hq": (355, 0),
  "prior_celeba_hq.py:801M": (801, 0),
  "prior_faces_coordinates": (307, 256),
  "prior_sflckr_segmentation": (307, 256),
  # Table 8 says 405, which 28 layers of width 1024 do not reach.
  "prior_ade20k_segmentation": (363, 256),
  "prior_coco_segmentation": (651, 256),
  "prior_lsun": (307, 0),
  "prior_lsun.py:tower": (307, 0),
  "prior_deepfashion_keypoints": (129, 170),
  "prior_coco_boxes": (651, 92),
  "prior_coco_boxes.py:points": (651, 62),
  "prior_open_images_boxes": (651, 92),
  "prior_folder": (None, 0),
  "prior_folder.py:64": (None, 0),
  "prior_scenes": (None, 0),
  **{
    f"prior_scenes.py:{kind}": (None, tokens)
    for kind, tokens in {
      "coordinates": 256,
      "segmentation": 256,
      "depth": 256,
      "edges": 256,
      "lowres": 64,
      "keypoints": 256,
      "boxes": 14,
      "points": 10,
      "completion": 256,
    }.items()
  },
}
# First stages, and what is told of figures and boxes, belong to the dataset:
# see configs/prior_imagenet.py.
_DATASET = (
  *("data.", "tokenizer.", "condition.stage."),
  *("condition.skeleton", "condition.flags"),
)


@pytest.mark.parametrize("name", [x for x in FULL if "scenes.py" not in x])
def test_full_size_model_builds_with_the_published_count(name):
  millions, tokens = FULL[name]
  config = forms.load(name)
  task, state = forms.abstract(config)
  count = forms.count(state.params)
  assert count > 5e5
  # The table rounds, and leaves out embeddings here and there.
  assert millions is None or abs(count / 1e6 / millions - 1) < 0.025
  assert task.condition.length == tokens
  assert bool(state.frozen["tokenizer"])
  staged = bool(config.condition.stage.like.task)
  assert ("condition" in state.frozen) == staged


@pytest.mark.parametrize("name", FULL)
def test_tiny_changes_only_numbers_and_the_dataset(name):
  assert not forms.misfits(name, _DATASET)
  full, tiny = forms.load(name), forms.tiny(name)
  assert full.condition.kind == tiny.condition.kind
  adapter = tasks.get("prior")
  task = adapter.make_task(tiny, adapter.assumed(tiny))
  assert task.grid == (8, 8)
  assert bool(task.condition.length) == bool(FULL[name][1])


@pytest.mark.parametrize(
  ("name", "arg"),
  [
    ("prior_imagenet", "tinny"),
    ("prior_folder", "33"),
    ("prior_lsun", "bedroom"),
    ("prior_scenes", "boxes,small"),
  ],
)
def test_unknown_argument_lists_the_choices(name, arg):
  with pytest.raises(ValueError, match=r"must be|one of"):
    forms.load(f"{name}.py:{arg}")


def test_unknown_kind_lists_the_choices():
  config = forms.tiny("prior_scenes")
  with config.unlocked():
    config.condition.kind = "segmentatoin"
  with pytest.raises(ValueError, match="Did you mean segmentation"):
    tasks.get("prior").make_task(config, {})


def test_maps_are_told_beside_the_codes_of_the_scenes_but_not_of_the_paper():
  adapter = tasks.get("prior")

  def model(config):
    return adapter.make_task(config, adapter.assumed(config)).model

  beside = lambda config: model(config).beside
  assert not model(forms.tiny("prior_scenes.py:segmentation")).prefixed
  assert model(forms.tiny("prior_scenes.py:lowres")).prefixed
  assert beside(forms.tiny("prior_scenes.py:lowres"))[:4] == (0, 0, 1, 1)
  snail = forms.tiny("prior_scenes.py:segmentation")
  with snail.unlocked():
    snail.model.name = "pixelsnail"
  assert beside(snail) == tuple(range(64))
  for name in ("prior_sflckr_segmentation", "prior_scenes.py:boxes"):
    assert beside(forms.load(name)) == ()


@pytest.mark.parametrize(
  ("form", "enters", "message"),
  [
    ("boxes", "both", "can only be prefix: the tokens of this condition"),
    ("class", "beside", "can only be prefix: the tokens of this condition"),
    ("depth", "bothe", "Did you mean both"),
  ],
)
def test_way_that_a_condition_cannot_enter_is_refused(form, enters, message):
  config = forms.tiny(f"prior_scenes.py:{form}")
  with config.unlocked():
    config.condition.enters = enters
  adapter = tasks.get("prior")
  with pytest.raises(ValueError, match=message):
    adapter.make_task(config, adapter.assumed(config))


@pytest.mark.parametrize(
  ("name", "value"), [("shared", True), ("n_unmasked", 3), ("classes", "token")]
)
def test_options_that_a_pixelsnail_does_not_have_are_refused(name, value):
  config = forms.tiny("prior_scenes")
  with config.unlocked():
    config.model.name = "pixelsnail"
    config.model[name] = value
  adapter = tasks.get("prior")
  with pytest.raises(ValueError, match=f"model.{name} .* for a PixelSNAIL"):
    adapter.make_task(config, adapter.assumed(config))


def test_boxes_of_the_paper_tell_groups_and_need_two_objects():
  adapter = tasks.get("prior")
  config = forms.load("prior_coco_boxes")
  task = adapter.make_task(config, adapter.assumed(config))
  assert "box_flags" in task.batch_spec(2)
  assert task.condition.layout.least == 2


def test_every_prior_config_is_tested():
  assert forms.shipped("prior_") == forms.files(FULL)
