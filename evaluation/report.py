"""Results as JSON, and as a table beside the published figures.

A result file says everything that decides its numbers. The published figures
ship as data (published.json) with the papers they are from.
"""

import datetime
import functools
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

from evaluation import atomic

# What a score may never be without.
REQUIRED = (
  "samples",
  "reference",
  "num_samples",
  "size",
  "preprocess",
  "weights",
  "scores",
  "notes",
)
_QUALIFIED = re.compile(
  r"(?P<metric>[a-z]+(?:_std)?)_(?:adm|pytorch_fid|clean)_(?P<count>\d+k?)$"
)


def write(path: str | os.PathLike, result: Mapping[str, Any]) -> None:
  """Writes a result atomically, with the time.

  Raises:
    ValueError: A field that decides the numbers is missing.
  """
  missing = [key for key in REQUIRED if key not in result]
  if missing:
    raise ValueError(f"a result must say its {', '.join(missing)}")
  now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
  content = {**result, "time": now}
  text = json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"
  atomic.replace(path, lambda file: file.write(text.encode()))


def read(path: str | os.PathLike) -> dict[str, Any]:
  """Reads a result; "inf", "-inf" and "nan" become floats again in scores."""
  with open(path) as file:
    result = json.load(file)
  result["scores"] = {k: float(v) for k, v in result["scores"].items()}
  return result


def table(result: Mapping[str, Any], dataset: str = "") -> str:
  """Lays a result out beside the published figures of the same dataset.

  Args:
    result: As written.
    dataset: Its TFDS name, such as "lsun/bedroom"; "" leaves them out.
  """
  scores = result["scores"]
  head = (
    f"{result['samples']} against {result['reference']}:"
    f" {result['num_samples']:,} images of {_size(result['size'])},"
    f" preprocess {result['preprocess']}, weights {result['weights'][:16]}"
  )
  width = max((len(name) for name in scores), default=0)
  lines = [head]
  lines += [f"  {name:<{width}}  {value:.5g}" for name, value in scores.items()]
  lines += [f"  note: {note}" for note in result["notes"]]
  if dataset:
    lines += beside(scores, dataset)
  return "\n".join(lines)


def beside(scores: Mapping[str, float], dataset: str) -> list[str]:
  """Returns lines that set scores beside the published ones.

  Only metrics that both have are shown. Ours appear in the row `ours` where
  they are comparable: the public weights, the `adm` preprocessing and 50,000
  samples; anything else is marked with `*`.
  """
  ours, marked = {}, False
  for name, value in scores.items():
    match = _QUALIFIED.fullmatch(name)
    if match:
      comparable = "_adm_50k" in name
      marked |= not comparable
      ours[match["metric"]] = f"{value:.5g}" + ("" if comparable else "*")
  columns = [m for m in ("fid", "sfid", "is", "precision", "recall")]
  rows = [
    row
    for row in published(dataset)
    if any(metric in row["values"] for metric in columns)
  ]
  columns = [
    m for m in columns if m in ours or any(m in row["values"] for row in rows)
  ]
  if not rows:
    return []
  names = ["ours"] + [
    f"{row['model']}" + (f", {row['setting']}" if row["setting"] else "")
    for row in rows
  ]
  cells = [[ours.get(m, "") for m in columns]]
  cells += [
    [f"{row['values'][m]:g}" if m in row["values"] else "" for m in columns]
    for row in rows
  ]
  left = max(map(len, names))
  lines = [f"  {dataset}, published:"]
  lines.append(f"  {'':<{left}}" + "".join(f"  {m:>9}" for m in columns))
  for name, row in zip(names, cells):
    lines.append(f"  {name:<{left}}" + "".join(f"  {cell:>9}" for cell in row))
  if marked:
    lines.append("  * other samples, preprocessing or number: not comparable")
  return [line.rstrip() for line in lines]


def published(dataset: str) -> Iterator[dict[str, Any]]:
  """Yields the published rows of a dataset, with model, table and source."""
  data = figures()
  for table in data["tables"]:
    paper = data["papers"][table["paper"]]
    for row in table["rows"]:
      if row["dataset"] == dataset:
        yield {
          **row,
          "model": table.get("model", paper["model"]),
          "table": table["name"],
          "what": table["what"],
          "source": f"{paper['authors']}, {paper['where']},"
          f" arXiv {paper['arxiv']}",
        }


@functools.cache
def figures() -> dict[str, Any]:
  """Returns published.json: `papers` by key, and `tables` with their rows."""
  text = (resources.files("evaluation") / "published.json").read_text()
  return json.loads(text)


def _finite(value: Any) -> Any:
  """Makes plain JSON of numbers: infinities become strings."""
  if isinstance(value, Mapping):
    return {str(k): _finite(v) for k, v in value.items()}
  if isinstance(value, Sequence) and not isinstance(value, str):
    return [_finite(v) for v in value]
  if hasattr(value, "item"):
    value = value.item()
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  return value


def _size(size: Sequence[int]) -> str:
  return " x ".join(map(str, size))
