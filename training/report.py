"""One page about a run: report.html with curves, pictures and tables.

The page is static and needs no other file: pictures are inside it.
"""

import base64
import io
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from training import band as band_lib
from training import rundir

# Curves come in this order; others follow by name.
_FIRST = ("train/loss", "train/bits_per_dim")
_MAX_CURVES = 12
_MAX_PICTURES = 8

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ name }}</title>
<style>
 body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; color: #222;
        max-width: 66rem; padding: 0 1rem; }
 table { border-collapse: collapse; margin: 1rem 0; }
 td, th { border: 1px solid #ccc; padding: .2rem .6rem; text-align: right; }
 td:first-child, th:first-child { text-align: left; }
 figure { display: inline-block; margin: .5rem; vertical-align: top; }
 figure img { max-width: 31rem; image-rendering: pixelated; }
 figcaption { color: #666; } pre { overflow-x: auto; background: #f6f6f6;
 padding: .6rem; } .bad { color: #b00; } .good { color: #070; }
</style></head><body>
<h1>{{ name }}</h1>
<p>{{ status.state or "unknown" }} at step {{ status.step }} of
{{ status.total }}; last checkpoint {{ status.last_checkpoint }}.
{% if status.exit_reason %}Ended: {{ status.exit_reason }}.{% endif %}</p>
{% if comparison %}<h2>Against the reference</h2>
<p class="{{ 'good' if comparison.inside else 'bad' }}">
{{ comparison.lines[0] }}</p>
{% for line in comparison.lines[1:] %}<div>{{ line }}</div>{% endfor %}
{% endif %}
{% if curves %}<h2>Curves</h2><img alt="curves" src="{{ curves }}">{% endif %}
{% if pictures %}<h2>Pictures</h2>{% for caption, source in pictures %}
<figure><img alt="{{ caption }}" src="{{ source }}">
<figcaption>{{ caption }}</figcaption></figure>{% endfor %}{% endif %}
{% for name, columns, rows in tables %}<h2>{{ name }}</h2>
<table><tr><th>step</th>{% for c in columns %}<th>{{ c }}</th>{% endfor %}</tr>
{% for step, cells in rows %}<tr><td>{{ step }}</td>
{% for cell in cells %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}
</table>{% endfor %}
{% if seconds %}<h2>Seconds</h2><table><tr>
{% for phase in seconds %}<th>{{ phase }}</th>{% endfor %}</tr><tr>
{% for phase in seconds %}<td>{{ "%.1f" % seconds[phase] }}</td>{% endfor %}
</tr></table>{% endif %}
{% for title, text in details %}<details><summary>{{ title }}</summary>
<pre>{{ text }}</pre></details>{% endfor %}
</body></html>
"""


def write(
  directory: str | os.PathLike, band: band_lib.Band | None = None
) -> pathlib.Path:
  """Write report.html into a run directory and return its path.

  Args:
    directory: of the run; missing parts are left out.
    band: shown behind its metric, with the verdict.
  Raises:
    rundir.RunDirectoryError: there is no run.
  """
  run = rundir.RunDirectory(directory)
  config = run.config
  lines = run.metrics()
  status = run.status()
  page = jinja2.Environment(autoescape=True).from_string(_PAGE)
  details = [("Config", json.dumps(config, indent=2))]
  environment = run.path / "env.json"
  if environment.exists():
    details.append(("Environment", environment.read_text("utf-8")))
  html = page.render(
    name=run.path.name,
    status=status,
    comparison=band_lib.compare(lines, band) if band else None,
    curves=_curves(lines, band),
    pictures=_pictures(run.path / "samples"),
    tables=_tables(run.path / "eval"),
    seconds=status.get("seconds", {}),
    details=details,
  )
  path = run.path / "report.html"
  path.write_text(html, "utf-8")
  return path


def _curves(
  lines: Sequence[Mapping[str, Any]], band: band_lib.Band | None
) -> str | None:
  """Draw every metric over the steps: a data URI."""
  names = {
    name
    for line in lines
    for name, value in line.items()
    if name != "step" and value is not None
  }
  if not names:
    return None
  rank = lambda name: (
    _FIRST.index(name) if name in _FIRST else len(_FIRST),
    name.startswith("perf/"),
    name,
  )
  chosen = sorted(names, key=rank)[:_MAX_CURVES]
  # Only here, because it takes a second and other commands do without.
  from matplotlib.backends import backend_agg
  from matplotlib.figure import Figure

  columns = min(3, len(chosen))
  rows = -(-len(chosen) // columns)
  figure = Figure(figsize=(4.2 * columns, 2.8 * rows), layout="constrained")
  backend_agg.FigureCanvasAgg(figure)
  for i, name in enumerate(chosen):
    axes = figure.add_subplot(rows, columns, i + 1)
    points = [
      (line["step"], line[name]) for line in lines if line.get(name) is not None
    ]
    if band is not None and band.metric == name:
      steps, low, high = zip(*band.points)
      axes.fill_between(steps, low, high, alpha=0.25, label="reference")
      axes.legend()
    axes.plot(*zip(*points), marker="." if len(points) < 20 else "")
    axes.set_title(name, fontsize=10)
    axes.grid(alpha=0.3)
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=90)
  return _uri(buffer.getvalue())


def _pictures(folder: pathlib.Path) -> list[tuple[str, str]]:
  """The newest picture of every name, and older samples spread over the run."""
  found: dict[str, dict[int, pathlib.Path]] = {}
  for path in folder.glob("*.png"):
    match = re.fullmatch(r"(\d+)(?:-(.+))?", path.stem)
    if match:
      name = match[2] or "samples"
      found.setdefault(name, {})[int(match[1])] = path
  chosen = []
  for name in sorted(found, key=lambda name: (name != "samples", name)):
    steps = sorted(found[name], reverse=True)
    if name == "samples":
      stride = max(1, -(-len(steps) // _MAX_PICTURES))
      steps = steps[::stride]
    else:
      steps = steps[:1]
    chosen += [(f"{name}, step {s}", found[name][s]) for s in steps]
  return [(caption, _uri(path.read_bytes())) for caption, path in chosen]


def _tables(
  folder: pathlib.Path,
) -> list[tuple[str, list[str], list[tuple[int, list[str]]]]]:
  """One table an evaluator: (name, columns, (step, cells))."""
  content: dict[str, dict[int, dict[str, Any]]] = {}
  for path in folder.glob("*/*.json"):
    try:
      step, known = int(path.parent.name), json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
      continue
    for name, scalars in known.items() if isinstance(known, dict) else ():
      if isinstance(scalars, dict):
        content.setdefault(name, {})[step] = scalars
  tables = []
  for name, by_step in sorted(content.items()):
    columns = sorted({key for scalars in by_step.values() for key in scalars})
    rows = [
      (step, [_cell(by_step[step].get(key)) for key in columns])
      for step in sorted(by_step)
    ]
    tables.append((name, columns, rows))
  return tables


def _cell(value: Any) -> str:
  if value is None:
    return "-"
  return f"{value:.5g}" if isinstance(value, float) else str(value)


def _uri(png: bytes) -> str:
  return "data:image/png;base64," + base64.b64encode(png).decode()
