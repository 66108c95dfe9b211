"""What commands share that train variants of a config and compare them."""

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from launch import flags, train
from training import rundir


def chosen(parser: flags.Parser, text: str, known: Sequence[str]) -> list[str]:
  """Returns the variants that a flag names, with commas, each once.

  Raises:
    UsageError: one of them is not known.
  """
  names = list(dict.fromkeys(text.split(",")))
  for name in names:
    if name not in known:
      parser.error(f"no variant {name!r}{flags.did_you_mean(name, known)}")
  return names


def changed(
  config: ml_collections.ConfigDict, fields: Mapping[str, Any]
) -> ml_collections.ConfigDict:
  """Returns a config with some fields set, which shows nothing of itself."""
  with config.unlocked():
    made = config.copy_and_resolve_references()
  made.lock()
  made.eval.every = made.sample.every = 0
  made.update_from_flattened_dict(dict(fields))
  return made


def trained(config: ml_collections.ConfigDict, folder: Path) -> bool:
  """Trains to the end, unless that has been done; says if that was reached."""
  finished = train.train(
    config, folder, write_tensorboard=False, stream=sys.stderr
  )
  if finished.reason != "completed":
    print(f"{finished.reason}: the same command goes on")
  return finished.reason == "completed"


def step_seconds(folder: Path) -> float:
  """Returns the median of what a run's log says a training step took."""
  lines = rundir.read_metrics(folder / "metrics.jsonl")
  found = [line.get("perf/step_s") for line in lines]
  return statistics.median(value for value in found if value)


def spread(values: Sequence[float], digits: int = 3) -> str:
  """Writes the mean of values and, where they are several, their range."""
  mean = f"{statistics.fmean(values):.{digits}f}"
  if len(values) == 1:
    return mean
  return f"{mean} ({min(values):.{digits}f}-{max(values):.{digits}f})"
