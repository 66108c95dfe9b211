"""Labels that are no classes of a model stop a run before it begins."""

import pytest

from launch import classes, datasets, errors, train
from tests.launch import labelled

FAMILIES = ("dct_scenes", "prior_scenes", "sundae_scenes")


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
  "labels, said", [([0, 1, 2, 3, 4, 24], "25 classes"), (None, "no labels")]
)
def test_labels_that_are_no_classes_are_refused(name, labels, said, tmp_path):
  config = labelled.config(
    name, tmp_path, labels, **{"model.num_classes": "24"}
  )
  workdir = tmp_path / "run"
  with pytest.raises(errors.CommandError) as error:
    train.train(config, workdir, write_tensorboard=False)
  message = str(error.value)
  assert said in message and "model.num_classes is 24" in message
  assert "\n" not in message and not workdir.exists()


@pytest.mark.parametrize("num_classes, labels", [(24, [3] * 6), (0, None)])
def test_labels_that_fit_pass(num_classes, labels, tmp_path):
  fields = {"model.num_classes": str(num_classes)}
  config = labelled.config("dct_imagenet", tmp_path, labels, **fields)
  source = datasets.open_source(config, "train")
  assert classes.check(config, source) is None
  with config.unlocked():  # too few classes for the labels, or any for none
    config.model.num_classes = 2
  with pytest.raises(errors.CommandError, match=r"model\.num_classes is 2"):
    classes.check(config, source)


@pytest.mark.parametrize("source", ["arrays", "codes", "folder"])
def test_fewer_classes_are_refused_where_they_have_names(source, tmp_path):
  config = labelled.config(
    "sundae_scenes", tmp_path, [3] * 6, **{"model.num_classes": "24"}
  )
  opened = datasets.open_source(config, "train")
  with config.unlocked():
    config.data.source = source
  if source == "folder":
    with pytest.raises(errors.CommandError, match="has 4 classes"):
      classes.check(config, opened)
  else:
    classes.check(config, opened)


@pytest.mark.parametrize("name", FAMILIES)
def test_null_class_without_classes_is_remarked_on(name, capsys):
  command = [f"--config=configs/{name}.py:tiny", "--dry_run"]
  command += ["--config.model.num_classes=0"]
  for drop, said in (("0.1", True), ("0.0", False)):
    assert train.main([*command, f"--config.model.class_drop={drop}"]) == 0
    printed = capsys.readouterr().out
    assert ("class_drop 0.1 has no effect" in printed) == said
