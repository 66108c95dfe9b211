"""Reports on a run: one page, and how it compares with a reference.

    python -m launch.report --workdir=runs/scenes
    python -m launch.report --workdir=runs/scenes --compare=runs/reference
    python -m launch.report --workdir=runs/scenes --compare=sundae_scenes

Writes report.html into the run directory: curves, pictures, evaluations,
environment, config, all in the one file. With --compare it says of every metric
whether it lies inside the band of a reference, and ends with 1 if one does not.
The reference is a run, a metrics.jsonl, or the name of a config whose curve
ships: that of the config as it is, with seed 0 on a CPU. Metrics of less than
ten points are compared where --names asks for them.
"""

import base64
import io
import json
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import matplotlib.figure

from launch import curves, errors, evaluation_tables, flags, runs
from training import rundir

# Curves with a figure of their own come first, in this order of groups.
GROUPS = ("train", "eval", "sample", "perf")
_MAX_PICTURES = 12
_PAGE = 900  # pixels across, at most
# Of the pictures of launch.evaluate.
_CAPTIONS = {
  "scored": "the first of the samples that were scored",
  "nearest": "samples and what is nearest to them in the training split",
  "per-class": "precision and recall among the pictures of one class",
}
# A curve that spans more than this factor is drawn on a logarithmic scale.
_DECADES = 30


@errors.command
def main(argv: list[str]) -> int:
  """Runs the command."""
  parser = flags.Parser(__doc__, "launch.report")
  parser.add_argument(
    "--workdir", type=Path, required=True, help="directory of the run"
  )
  parser.add_argument(
    "--compare",
    help="another run, its metrics.jsonl, or what ships: "
    + ", ".join(curves.shipped()),
  )
  parser.add_argument(
    "--tolerance",
    type=float,
    default=0.05,
    help="half width of the band, as a fraction of the reference",
  )
  parser.add_argument(
    "--names", default="", help="metrics to compare, comma-separated"
  )
  args = parser.parse_arguments(argv)
  if args.compare is None:
    path = write(args.workdir)
    print(summary(args.workdir))
    print(path)
    return 0
  verdicts = curves.compare(
    curves.read(args.workdir),
    curves.read(curves.find(args.compare)),
    args.tolerance,
    [name for name in args.names.split(",") if name],
  )
  print(comparison(verdicts))
  return 0 if all(verdict.inside for verdict in verdicts) else 1


def write(workdir: Path) -> Path:
  """Writes `report.html` and returns its path.

  Raises:
    CommandError: the directory holds no run.
  """
  config = runs.load_config(workdir)
  directory = rundir.RunDirectory(workdir)
  template = (
    resources.files("launch").joinpath("report.html").read_text("utf-8")
  )
  page = jinja2.Environment(autoescape=True).from_string(template)
  html = page.render(
    title=f"{config.task} in {workdir.name}",
    summary=summary(workdir),
    curves=list(_figures(workdir)),
    pictures=list(_pictures(workdir)),
    evaluations=list(
      evaluation_tables.tables(workdir, config.get("data", {}).get("name", ""))
    ),
    environment=list(flags.flatten(_read(workdir / "env.json"))),
    config=json.dumps(directory.config, indent=2),
  )
  path = workdir / "report.html"
  path.write_text(html, encoding="utf-8")
  return path


def summary(workdir: Path) -> str:
  """Says in a sentence how far the run is and how it went."""
  status = rundir.RunDirectory(workdir).status()
  if not status:
    return "The run has not begun."
  sentence = (
    f"{status['state']} at step {status['step']:,} of {status['total']:,}"
  )
  seconds = status.get("seconds") or {}
  wall = sum(seconds.values())
  if wall:
    shares = ", ".join(
      f"{phase.replace('_', ' ')} {value / wall:.0%}"
      for phase, value in seconds.items()
      if value / wall >= 0.01
    )
    sentence += f"; {wall:,.0f} s since the last start ({shares})"
  return f"{sentence}."


def comparison(verdicts: list[curves.Verdict]) -> str:
  """Lays the verdicts out for the terminal."""
  width = max(len(verdict.name) for verdict in verdicts)
  return "\n".join(
    f"{verdict.name:<{width}}  {'inside ' if verdict.inside else 'OUTSIDE'}  "
    f"{verdict.last:.5g} in {verdict.low:.5g} .. {verdict.high:.5g} "
    f"(reference {verdict.reference:.5g}, {verdict.strays:.0%} strays)"
    for verdict in verdicts
  )


def _figures(workdir: Path) -> Iterator[dict[str, Any]]:
  """Draws one figure a metric, grouped."""
  try:
    found = curves.read(workdir)
  except errors.CommandError:
    return
  order = {group: i for i, group in enumerate(GROUPS)}
  rank = lambda name: (order.get(name.split("/")[0], len(order)), name)
  for name in sorted(found, key=rank):
    curve = found[name]
    if len(curve.steps) < 2:
      continue
    figure = matplotlib.figure.Figure(figsize=(4.6, 2.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(curve.steps, curve.values, color="0.75", linewidth=1)
    axes.plot(curve.steps, curve.smooth()[0], color="tab:blue")
    axes.set_title(name, fontsize=10)
    axes.set_xlabel("step", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    low, high = curve.values.min(), curve.values.max()
    if low > 0 and high > _DECADES * low:
      axes.set_yscale("log")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    yield _figure(name, buffer.getvalue())


def _pictures(workdir: Path) -> Iterator[dict[str, Any]]:
  """Takes the newest pictures below samples/."""
  rank = lambda path: (int(path.stem.split("-")[0]), path.name)
  paths = [
    path
    for path in (workdir / "samples").glob("*.png")
    if path.stem.split("-")[0].isdigit()
  ]
  for path in sorted(paths, key=rank, reverse=True)[:_MAX_PICTURES]:
    said = _CAPTIONS.get(path.stem.partition("-")[2], "")
    caption = f"samples/{path.name}" + (f": {said}" if said else "")
    yield _figure(caption, path.read_bytes())


def _figure(name: str, png: bytes) -> dict[str, Any]:
  # A file of PNG has its width at byte 16. What the page makes narrower would
  # lose rows and columns if its pixels were kept sharp.
  narrow = int.from_bytes(png[16:20], "big") <= _PAGE
  return {
    "name": name,
    "data": base64.b64encode(png).decode(),
    "pixels": narrow,
  }


def _read(path: Path) -> dict[str, Any]:
  try:
    return json.loads(path.read_text("utf-8"))
  except (OSError, ValueError):
    return {}


if __name__ == "__main__":
  sys.exit(main())
