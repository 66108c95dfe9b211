"""Curves of a run: read from metrics.jsonl, smoothed, compared with another's.

A reference is another run, or its metrics.jsonl kept as a file; those of some
configs ship in configs/curves. Its band at a step is the mean of a window
around it, plus and minus a tolerance and twice the window's deviation; a run is
inside where most of its own means are.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from launch import errors, flags
from training import rundir

# Points that a mean is taken over, and how many of a curve's means may stray.
WINDOW = 5
STRAY = 0.1
# Not compared unless named: what depends on the machine, and what has so few
# points that a window is most of the run.
MACHINE = ("perf/",)
LEAST = 2 * WINDOW


@dataclasses.dataclass(frozen=True)
class Curve:
  """One metric: steps int64 [n], rising, and values float64 [n], finite."""

  steps: np.ndarray
  values: np.ndarray

  def last(self) -> float:
    """Returns the mean of the last window."""
    return float(self.values[-WINDOW:].mean())

  def smooth(self) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and deviation of the window around each point."""
    half = WINDOW // 2
    windows = [
      self.values[max(i - half, 0) : i + half + 1]
      for i in range(len(self.values))
    ]
    return (
      np.array([window.mean() for window in windows]),
      np.array([window.std() for window in windows]),
    )


@dataclasses.dataclass(frozen=True)
class Verdict:
  """How one metric compares.

  Attributes:
    name: of the metric.
    inside: most of the curve lies in the reference's band.
    last: mean of its last window up to the last common step.
    reference: the reference's mean there.
    low: the band's lower end there.
    high: its upper end.
    strays: share of the points outside of the band.
  """

  name: str
  inside: bool
  last: float
  reference: float
  low: float
  high: float
  strays: float


def shipped() -> dict[str, Path]:
  """Returns the reference curves that ship, by the name of their config."""
  folder = Path(str(resources.files("configs").joinpath("curves")))
  return {path.stem: path for path in sorted(folder.glob("*.jsonl"))}


def find(name: str) -> Path:
  """Returns what `read` takes: of a path, or of a curve that ships.

  Raises:
    CommandError: there is neither, or both.
  """
  path, known = Path(name), shipped()
  if path.exists():
    if name in known:
      raise errors.CommandError(
        f"--compare={name} is a curve that ships, and {path} is here too",
        f"--compare=./{name} for that one; rename it to have the other",
      )
    return path
  if name not in known:
    raise errors.CommandError(
      f"no run, file or curve {name!r}{flags.did_you_mean(name, list(known))}"
    )
  return known[name]


def read(path: Path) -> dict[str, Curve]:
  """Reads the curves of a run directory or of a metrics file.

  Raises:
    CommandError: there are none.
  """
  file = path / "metrics.jsonl" if path.is_dir() else path
  points: dict[str, list[tuple[int, float]]] = {}
  for line in rundir.read_metrics(file):
    for name, value in line.items():
      if name != "step" and isinstance(value, int | float):
        points.setdefault(name, []).append((line["step"], float(value)))
  if not points:
    raise errors.CommandError(
      f"no metrics in {file}: give the directory of a run that has begun"
    )
  return {
    name: Curve(
      np.array([step for step, _ in pairs], np.int64),
      np.array([value for _, value in pairs]),
    )
    for name, pairs in points.items()
  }


def compare(
  run: Mapping[str, Curve],
  reference: Mapping[str, Curve],
  tolerance: float,
  names: Sequence[str] = (),
) -> list[Verdict]:
  """Compares the metrics that both have, at the steps that both reached.

  Args:
    run: its curves.
    reference: the reference's.
    tolerance: half width of the band as a fraction of the reference.
    names: of the metrics; by default all but speeds, of which the reference
      has `LEAST` points.

  Raises:
    CommandError: there is nothing to compare.
  """
  common = sorted(run.keys() & reference.keys())
  chosen = names or [
    x
    for x in common
    if not x.startswith(MACHINE) and len(reference[x].steps) >= LEAST
  ]
  absent = set(chosen) - set(common)
  if absent:
    raise errors.CommandError(
      f"{', '.join(sorted(absent))} is not in both runs: choose among "
      f"{', '.join(common)}"
    )
  verdicts = [_compare(x, run[x], reference[x], tolerance) for x in chosen]
  verdicts = [verdict for verdict in verdicts if verdict is not None]
  if not verdicts:
    raise errors.CommandError(
      "the two runs have no metric and step in common"
      + ("" if names else f", of {LEAST} points in the reference: try --names")
    )
  return verdicts


def _compare(name, run, reference, tolerance) -> Verdict | None:
  begin = max(run.steps[0], reference.steps[0])
  end = min(run.steps[-1], reference.steps[-1])
  here = (run.steps >= begin) & (run.steps <= end)
  if not here.any():
    return None
  mean, deviation = reference.smooth()
  half = tolerance * np.abs(mean) + 2 * deviation
  steps = run.steps[here]
  values = Curve(steps, run.values[here]).smooth()[0]
  at = lambda curve: np.interp(steps, reference.steps, curve)
  low, high = at(mean - half), at(mean + half)
  strays = float(((values < low) | (values > high)).mean())
  return Verdict(
    name=name,
    inside=strays <= STRAY,
    last=float(values[-1]),
    reference=float(at(mean)[-1]),
    low=float(low[-1]),
    high=float(high[-1]),
    strays=strays,
  )
