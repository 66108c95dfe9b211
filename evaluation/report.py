"""Results as JSON, and as a table beside the published figures.

A result file says everything that decides its numbers. The published figures
ship as data (published.json) with the papers they are from.
"""

import dataclasses
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
  r"(?P<metric>(?:is_torch_fidelity|[a-z]+)(?:_std)?)"
  r"_(?:adm|pytorch_fid|clean)(?:_unchecked)?"
  r"_(?P<count>\d+k?)$"
)
_UNOFFICIAL = "unofficial_"
_LOWER = (
  *("fid", "sfid", "rfid", "frechet", "sfrechet", "rfrechet", "kid"),
  *("lpips", "lpips_alex", "memorised_fraction"),
  *("nats_per_label", "quantization_error", "l1"),
)
_HIGHER = (
  *(
    "is",
    "is_torch_fidelity",
    "precision",
    "recall",
    "density",
    "coverage",
    "psnr",
    "ssim",
  ),
  *("accuracy", "psnr_db"),
  *("class_precision_mean", "class_recall_mean", "class_recall_lowest"),
)
MARK = "* other samples, preprocessing, number or size: not comparable"
# What a set of samples, and one of reconstructions, has published figures of.
_PUBLISHED = (("fid", "sfid", "is", "precision", "recall"), ("rfid",))


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Scores beside the published ones of a dataset.

  Attributes:
    columns: Metrics.
    rows: A name and a cell for each column; the first row is ours.
    sources: The papers of the other rows.
    marked: Whether a `*` in our row stands for another convention.
  """

  columns: tuple[str, ...]
  rows: tuple[tuple[str, tuple[str, ...]], ...]
  sources: tuple[str, ...]
  marked: bool


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
  for name, value in scores.items():
    way = better(name)
    wanted = f"{way} is better" if way else ""
    lines.append(f"  {name:<{width}}  {value:<10.5g}  {wanted}".rstrip())
  lines += [f"  note: {note}" for note in result["notes"]]
  if dataset:
    lines += beside(scores, dataset, result["size"])
  return "\n".join(lines)


def better(name: str) -> str:
  """Returns which way a score is better: "lower", "higher", or "" if neither.

  Args:
    name: Of a score, such as `fid` or `unofficial_recall_adm_5k`; names that
      begin with `bits_` are costs.
  """
  match = _QUALIFIED.fullmatch(name.removeprefix(_UNOFFICIAL))
  metric = match["metric"] if match else name
  if metric in _LOWER or metric.startswith("bits_"):
    return "lower"
  return "higher" if metric in _HIGHER else ""


def compared(
  scores: Mapping[str, float], dataset: str, size: Sequence[int] = ()
) -> Comparison | None:
  """Sets scores beside the published ones; None where there are none.

  Reconstructions are compared with reconstructions, samples with samples.
  Ours are comparable with the public weights, the `adm` preprocessing, 50,000
  samples and the size of published ones; anything else is marked with `*`.

  Args:
    scores: By qualified name.
    dataset: Its TFDS name, such as "lsun/bedroom".
    size: Of our images, (h, w); () where it is not known.
  """
  again = any("rfid" in name or "rfrechet" in name for name in scores)
  known = _PUBLISHED[again]
  rows = [row for row in published(dataset) if {*row["values"]} & {*known}]
  if not rows:
    return None
  sides = {side for row in rows for side in row["sides"]}
  side = max(size, default=0)
  alike = not side or side in sides
  ours, marked = {}, False
  for name, value in scores.items():
    match = _QUALIFIED.fullmatch(name)
    if match:
      comparable = alike and "_adm_50k" in name
      marked |= not comparable
      ours[match["metric"]] = f"{value:.5g}" + ("" if comparable else "*")
  columns = tuple(
    m for m in known if m in ours or any(m in row["values"] for row in rows)
  )
  named = _named("ours", "", side)
  cells = [(named, tuple(ours.get(m, "") for m in columns))]
  for row in rows:
    name = _named(row["model"], row["setting"], row["sides"][0])
    values = row["values"]
    cells.append(
      (name, tuple(f"{values[m]:g}" if m in values else "" for m in columns))
    )
  sources = tuple(dict.fromkeys(row["source"] for row in rows))
  return Comparison(columns, tuple(cells), sources, marked)


def beside(
  scores: Mapping[str, float], dataset: str, size: Sequence[int] = ()
) -> list[str]:
  """Returns the lines of `compared` for a terminal."""
  found = compared(scores, dataset, size)
  if found is None:
    return []
  left = max(len(name) for name, _ in found.rows)
  lines = [f"  {dataset}, published:"]
  heads = "".join(f"  {m:>9}" for m in found.columns)
  lines.append(f"  {'':<{left}}{heads}")
  for name, row in found.rows:
    lines.append(f"  {name:<{left}}" + "".join(f"  {cell:>9}" for cell in row))
  if found.marked:
    lines.append(f"  {MARK}")
  return [line.rstrip() for line in lines]


def datasets() -> tuple[str, ...]:
  """Lists the datasets that have published figures."""
  tables = figures()["tables"]
  names = {row["dataset"]: None for table in tables for row in table["rows"]}
  return tuple(names)


def published(dataset: str) -> Iterator[dict[str, Any]]:
  """Yields the published rows of a dataset, with model, table and source.

  Scores of images have `sides`, pixels of the longer one: that of the paper,
  and 256 where others quote its scores for it.
  """
  data = figures()
  for table in data["tables"]:
    paper = data["papers"][table["paper"]]
    for row in table["rows"]:
      if row["dataset"] == dataset:
        yield {
          "model": table.get("model", paper["model"]),
          **row,
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


def _named(model: str, setting: str, side: int) -> str:
  return ", ".join(filter(None, (model, setting, f"{side} px" if side else "")))


def _size(size: Sequence[int]) -> str:
  return " x ".join(map(str, size)) or "a size that is not known"
