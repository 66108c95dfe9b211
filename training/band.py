"""Reference bands: where the curve of a run is expected to lie.

A band is a JSON file: {"metric": "train/loss", "about": {...},
"points": [{"step": 10, "low": 3.1, "high": 3.4}, ...]}.
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Line = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Band:
  """Lower and upper bounds of a metric by step.

  Attributes:
    metric: its name in metrics.jsonl.
    points: (step, low, high), ascending.
    about: how it was made (seeds, versions, config).
  """

  metric: str
  points: tuple[tuple[int, float, float], ...]
  about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def save(self, path: str | os.PathLike) -> None:
    """Write the JSON file."""
    points = [
      {"step": step, "low": low, "high": high}
      for step, low, high in self.points
    ]
    content = {"metric": self.metric, "about": dict(self.about)}
    text = json.dumps(content | {"points": points}, indent=2)
    pathlib.Path(path).write_text(text + "\n", "utf-8")


@dataclasses.dataclass(frozen=True)
class Comparison:
  """How a run lies to a band.

  Attributes:
    inside: at every step of the band.
    lines: readable; the first is the verdict.
  """

  inside: bool
  lines: tuple[str, ...]


def load(path: str | os.PathLike) -> Band:
  """Read a band.

  Raises:
    ValueError: not the file of a band.
  """
  try:
    content = json.loads(pathlib.Path(path).read_text("utf-8"))
    points = tuple(
      (int(p["step"]), float(p["low"]), float(p["high"]))
      for p in content["points"]
    )
    return Band(str(content["metric"]), points, content.get("about", {}))
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f"{path} is not a reference band ({error!r}): make one with band.make"
    ) from error


def make(
  runs: Sequence[Iterable[Line]],
  metric: str,
  *,
  relative: float = 0.05,
  deviations: float = 4.0,
  about: Mapping[str, Any] | None = None,
) -> Band:
  """Make a band around runs that differ in their seeds.

  At each step that all runs have, the half width is the larger of `relative`
  times the mean and `deviations` standard deviations.

  Raises:
    ValueError: the runs share no step with the metric.
  """
  curves = [_curve(run, metric) for run in runs]
  shared = set.intersection(*(set(curve) for curve in curves))
  if not shared:
    raise ValueError(f"the runs have no step with {metric} in common")
  points = []
  for step in sorted(shared):
    values = [curve[step] for curve in curves]
    mean = sum(values) / len(values)
    spread = math.sqrt(
      sum((x - mean) ** 2 for x in values) / max(len(values) - 1, 1)
    )
    half = max(relative * abs(mean), deviations * spread)
    points.append((step, mean - half, mean + half))
  return Band(metric, tuple(points), dict(about or {}))


def compare(lines: Iterable[Line], band: Band, limit: int = 8) -> Comparison:
  """Say whether a run lies inside a band, and where it does not."""
  curve = _curve(lines, band.metric)
  problems, missing = [], 0
  for step, low, high in band.points:
    value = curve.get(step)
    if value is None:
      missing += 1
    elif not low <= value <= high:
      problems.append(
        f"step {step}: {value:.5g} is not in [{low:.5g}, {high:.5g}]"
      )
  if missing:
    problems.append(f"{missing} steps of the band are missing from the run")
  if not problems:
    verdict = f"{band.metric} is inside the band at {len(band.points)} steps"
    return Comparison(True, (verdict,))
  hidden = len(problems) - limit
  if hidden > 0:
    problems = [*problems[:limit], f"... and {hidden} more"]
  return Comparison(False, (f"{band.metric} is outside the band", *problems))


def _curve(lines: Iterable[Line], metric: str) -> dict[int, float]:
  return {
    line["step"]: float("nan") if line[metric] is None else line[metric]
    for line in lines
    if metric in line
  }
