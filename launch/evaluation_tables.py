"""The tables of a run's evaluations, for its page.

Each value stands beside what is wanted of it: a bar, or which way is better;
scores of pictures also beside the published ones of the same dataset.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluation import report
from launch import demo_figures

# What decides the scores of pictures, as a result file has it.
_DECISIVE = (
  *("reference", "num_reference", "preprocess", "weights", "size", "crop"),
  *("average", "seed", "labels", "sampling"),
)


def tables(workdir: Path, dataset: str) -> Iterator[dict[str, Any]]:
  """Yields a table for each kind of evaluation, of its newest step.

  Args:
    workdir: of the run.
    dataset: whose published figures are shown, where a result names none.

  Yields:
    `name`, `rows` of cells, of which the first is a name and the next is a
    number, or the next `numbers` are, and where there are any `note`, `head`,
    `remarks` (below the table) and `aside` (small print).
  """
  folders = [
    path for path in (workdir / "eval").glob("*") if path.name.isdigit()
  ]
  newest: dict[str, Path] = {}
  for folder in sorted(folders, key=lambda path: int(path.name)):
    newest |= {path.name: path for path in folder.glob("*.json")}
  for _, path in sorted(newest.items()):
    try:
      content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
      continue
    yield from _of_file(content, path, dataset)


def _of_file(content, path: Path, dataset) -> Iterator[dict[str, Any]]:
  step = path.parent.name
  if path.name == "eval.json":  # of the run itself: scalars by evaluator
    for name, values in content.items():
      if isinstance(values, Mapping):
        yield _table(f"{name}, step {step}", values)
  elif "figures" in content:
    figures = [demo_figures.Figure(**x) for x in content["figures"]]
    rows = demo_figures.rows(figures)
    yield {
      "name": f"figures of the {path.stem}, step {step}",
      "head": list(rows[0]),
      "rows": [list(row.values()) for row in rows],
      "remarks": demo_figures.notes(figures),
    }
  elif "scores" in content:
    yield from _of_pictures(content, step, content.get("published") or dataset)
  elif "values" in content:
    note = (
      f"{content['num_examples']:,} of {content['split_size']:,} examples "
      f"of {content['dataset']}, step {step}"
    )
    if not content["comparable"]:
      note += ": not comparable"
    yield _table(content["metric"], content["values"]) | {"note": note}


def _of_pictures(content, step, dataset) -> Iterator[dict[str, Any]]:
  """Tables what evaluation.report wrote."""
  note = f"{content['num_samples']:,} pictures, step {step}"
  if not content["comparable"]:
    note += ": not comparable"
  decided = [f"{k}: {_said(content[k])}" for k in _DECISIVE if k in content]
  yield _table(content["metric"], content["values"]) | {
    "note": note,
    "remarks": content["notes"],
    "aside": "; ".join(decided),
  }
  scores = {name: float(value) for name, value in content["scores"].items()}
  found = report.compared(scores, dataset, content.get("size", ()))
  if found:
    yield {
      "name": f"published for {dataset}",
      "head": ["", *found.columns],
      "rows": [[name, *cells] for name, cells in found.rows],
      "numbers": len(found.columns),
      "remarks": [report.MARK] * found.marked,
      "aside": "; ".join(found.sources),
    }


def _table(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
  rows = []
  for key, value in values.items():
    text = f"{value:.5g}" if isinstance(value, float) else str(value)
    way = report.better(key.split("/")[-1])
    rows.append([key, text, f"{way} is better" if way else ""])
  return {"name": name, "rows": rows}


def _said(value: Any) -> str:
  if isinstance(value, Mapping):
    return ", ".join(f"{k} {v}" for k, v in value.items())
  if isinstance(value, list):
    return " x ".join(map(str, value))
  return str(value)
