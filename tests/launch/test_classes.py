"""Labels that are no classes of a model stop a run before it begins."""

import numpy as np
import pytest

from launch import classes, datasets, errors, flags, train
from tests.dctransformer import tiny

FAMILIES = ("dct_scenes", "prior_scenes", "sundae_scenes")


def _config(name, folder, labels, **overrides):
  """A tiny config on six pictures with these labels, or without any."""
  held = {"train_images": tiny.make_images(6)}
  if labels is not None:
    held["train_labels"] = np.array(labels)
  np.savez(folder / "images.npz", **held)
  fields = {
    "data.source": "arrays",
    "data.dir": str(folder / "images.npz"),
    "data.split": "train",
    "data.eval_split": "train",
    **overrides,
  }
  return flags.load(f"configs/{name}.py:tiny", list(fields.items()))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
  "labels, said", [([0, 1, 2, 3, 4, 24], "25 classes"), (None, "no labels")]
)
def test_labels_that_are_no_classes_are_refused(name, labels, said, tmp_path):
  config = _config(name, tmp_path, labels, **{"model.num_classes": "24"})
  workdir = tmp_path / "run"
  with pytest.raises(errors.CommandError) as error:
    train.train(config, workdir, write_tensorboard=False)
  message = str(error.value)
  assert said in message and "model.num_classes is 24" in message
  assert "\n" not in message and not workdir.exists()


@pytest.mark.parametrize("source", ["arrays", "codes", "folder"])
def test_fewer_classes_are_refused_where_they_have_names(source, tmp_path):
  config = _config(
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
