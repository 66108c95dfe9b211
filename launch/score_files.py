"""The files that a run's scores go to, and what is in them already.

RUN/eval/STEP/NAME.json. The name tells apart whatever makes numbers differ
that have one name; of the same samples against the same reference all metrics
share a file.
"""

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from evaluation import compare, features, report
from launch import scores


@dataclasses.dataclass(frozen=True)
class Result:
  """A file of results that was asked for.

  Attributes:
    name: of the file, without `.json`.
    metrics: that it has to have.
    decided: fields of the file by which its numbers are those asked for.
    group: of its curves, below `eval/`; "" where nothing was asked for that
      names of scores do not tell.
  """

  name: str
  metrics: Sequence[str]
  decided: Mapping[str, Any]
  group: str = ""

  def path(self, folder: Path) -> Path:
    """Returns the file in the folder of a checkpoint's results."""
    return folder / f"{self.name}.json"

  def done(self, folder: Path) -> bool:
    """Says whether all that was asked for is there."""
    there = self._there(folder)
    return bool(there) and {*self.metrics} <= {*there.get("metrics", ())}

  def joined(self, folder: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """Adds to new scores the file's other ones, where the images are the same.

    Args:
      folder: of the checkpoint's results.
      result: of `scores.describe`.
    """
    new = {**result, **self.decided, "metrics": list(self.metrics)}
    there = self._there(folder)
    same = ("digest", "reference_metadata")
    if not there or any(there.get(x) != new.get(x) for x in same):
      return new
    notes = [note for note in there["notes"] if not self._measured(note)]
    return {
      **new,
      "metrics": [*dict.fromkeys([*there["metrics"], *self.metrics])],
      "scores": {**there["scores"], **new["scores"]},
      "notes": [*dict.fromkeys([*notes, *new["notes"]])],
    }

  def _there(self, folder: Path) -> dict[str, Any]:
    """Reads the file; {} where there is none of just these images."""
    try:
      found = report.read(self.path(folder))
    except (OSError, ValueError, KeyError):
      return {}
    other = any(found.get(x) != y for x, y in self.decided.items())
    return {} if other or "metrics" not in found else found

  def _measured(self, note: str) -> bool:
    """Says whether a note is of a metric that was measured anew."""
    return not {*self.metrics}.isdisjoint(note.partition(": ")[0].split(", "))


def of_samples(
  args: argparse.Namespace,
  net: features.Network,
  config: ml_collections.ConfigDict,
  metrics: Sequence[str],
) -> Result:
  """Returns the file of scores of samples against a reference."""
  number = args.num_samples or compare.CONVENTION
  digest = _digest(args.reference)
  decided = {
    **_of_images(args, net),
    "num_samples": number,
    "seed": args.seed,
    "sampling": json.loads(json.dumps(config.sample.to_dict())),
    # "" is the training split. A file is itself wherever it lies.
    "asked_reference": "" if digest else args.reference,
    "reference_sha256": digest,
  }
  parts = ["scores", str(number), net.preprocess, f"seed{args.seed}"]
  parts += _others(args, net)
  group = [*([f"seed{args.seed}"] if args.seed else []), *_images(args)]
  if args.reference:
    digest = digest or hashlib.sha256(args.reference.encode()).hexdigest()
    parts.append(f"reference-{digest[:8]}")
    group.append(parts[-1])
  return Result("-".join(parts), metrics, decided, "/".join(group))


def of_reconstructions(
  args: argparse.Namespace,
  net: features.Network,
  config: ml_collections.ConfigDict,
  metric: str,
) -> Result:
  """Returns the file of scores of reconstructions."""
  parts = ["reconstruction", net.preprocess, *_others(args, net)]
  # The whole evaluation split goes without saying.
  chosen: dict[str, Any] = {}
  group: list[str] = []
  if args.split and args.split != config.data.eval_split:
    chosen["split"] = args.split
    parts.append("split-" + args.split.replace("/", "-"))
    group.append(args.split)
  if args.num_images:
    chosen["num_images"] = args.num_images
    parts.append(f"images-{args.num_images}")
    group.append(parts[-1])
  decided = {**_of_images(args, net), **chosen}
  group += _images(args)
  return Result("-".join(parts), [metric], decided, "/".join(group))


def _of_images(args, net) -> dict[str, Any]:
  return {
    "average": not args.no_average,
    "preprocess": net.preprocess,
    "weights": net.weights,
    "crop": scores.crop_name(args.size),
  }


def _others(args, net) -> list[str]:
  """Names what is not as it is by default."""
  weights = net.weights.replace(":", "-")[:12]
  told = net.official or weights == scores.NO_NETWORK
  return [*_raw(args), *([] if told else [weights]), *_size(args)]


def _images(args) -> list[str]:
  """Names it but for the weights: scores of others are `unofficial_...`."""
  return [*_raw(args), *_size(args)]


def _raw(args) -> list[str]:
  return ["raw"] if args.no_average else []


def _size(args) -> list[str]:
  return [f"size{args.size}"] if args.size else []


def _digest(text: str) -> str:
  """Returns the SHA-256 of a file; "" of anything else."""
  if not text or not Path(text).is_file():
    return ""
  with open(text, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
