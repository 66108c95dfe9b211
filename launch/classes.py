"""Whether the labels of a dataset are the classes of a model."""

import ml_collections

from data import source as source_lib
from launch import errors

# Where a dataset may know no more classes than its largest label shows.
_UNNAMED = ("arrays", "codes")


def check(config: ml_collections.ConfigDict, source: source_lib.Source) -> None:
  """Stops where the dataset's labels are not the classes of the model.

  Raises:
    CommandError: in one line, with both numbers.
  """
  expected, found = config.model.num_classes, source.num_classes
  if expected <= 0 or expected == found:
    return
  if config.data.source in _UNNAMED and 0 < found < expected:
    return
  held = f"{found} classes" if found else "no labels"
  raise errors.CommandError(
    f"{source.name} has {held} and model.num_classes is {expected}: set "
    f"--config.model.num_classes={found}, or bring the dataset of this config"
  )


def remarks(config: ml_collections.ConfigDict) -> list[str]:
  """Returns a line where a null class is asked for without classes."""
  model = config.model
  if model.num_classes or not model.class_drop:
    return []
  return [
    f"model.class_drop {model.class_drop} has no effect while "
    "model.num_classes is 0"
  ]
