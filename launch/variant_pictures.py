"""Pictures of variants that were trained: curves, and reconstructions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import matplotlib
import matplotlib.figure
import numpy as np
from PIL import Image, ImageDraw

from launch import curves, pictures, runs
from training import sharding

_COLUMNS = 3  # of curves
_SHOWN = 8  # reconstructions of a variant
_SIDE = 96  # pixels that a small picture is enlarged to
_MARGIN = 6


def draw_curves(
  path: Path,
  found: Mapping[str, Sequence[Mapping[str, curves.Curve]]],
  heads: Mapping[str, str],
) -> None:
  """Draws each metric of all variants, a line a seed.

  Args:
    path: of the PNG.
    found: curves by metric of each seed, by variant.
    heads: what to call a metric.
  """
  rows = -(-len(heads) // _COLUMNS)
  figure = matplotlib.figure.Figure(
    figsize=(4.2 * _COLUMNS, 2.8 * rows), layout="constrained"
  )
  grid = figure.subplots(rows, _COLUMNS, squeeze=False)
  colours = matplotlib.colormaps["tab10"].colors
  for axes, (metric, head) in zip(grid.flat, heads.items()):
    for index, (name, seeds) in enumerate(found.items()):
      drawn = [x[metric] for x in seeds if metric in x]
      for seed, curve in enumerate(drawn):
        axes.plot(
          curve.steps,
          curve.values,
          color=colours[index % len(colours)],
          marker=".",
          linewidth=1,
          label=None if seed else name,
        )
    axes.set_title(head, fontsize=10)
    axes.set_xlabel("step", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
  for axes in grid.flat[len(heads) :]:
    axes.set_axis_off()
  lines, labels = grid.flat[0].get_legend_handles_labels()
  figure.legend(lines, labels, loc="outside lower center", ncols=len(labels))
  figure.savefig(path, dpi=100)


def draw_reconstructions(path: Path, folders: Mapping[str, Path]) -> None:
  """Draws held-out pictures and, below, what each run makes of them.

  Args:
    path: of the PNG.
    folders: of runs by name.
  """
  rows: dict[str, np.ndarray] = {}
  for name, folder in folders.items():
    real, made = _reconstruct(folder)
    rows.setdefault("real", real)
    rows[name] = made
  image = _in_rows(rows)
  image.save(path)


def _reconstruct(folder: Path) -> tuple[np.ndarray, np.ndarray]:
  """Returns held-out pictures and their reconstructions, [n, h, w, 3]."""
  run = runs.open_run(folder)
  mesh = sharding.make_mesh({"data": 1}, jax.local_devices()[:1])
  sampler = run.adapter.make_sampler(
    run.config, run.task, run.measured, jax.random.key(0)
  )
  count = min(_SHOWN, run.config.sample.num)
  both = np.asarray(
    sampler(run.restore(mesh).state, np.arange(count)).images
  )  # [n, h, 2w, 3]
  real, made = np.split(both, 2, axis=2)
  return real, made


def _in_rows(rows: Mapping[str, np.ndarray]) -> Image.Image:
  """Lays pictures out below each other, with names on the left."""
  images = np.concatenate([*rows.values()])
  times = max(1, _SIDE // min(images.shape[1:3]))
  grid = pictures.grid(
    images.repeat(times, 1).repeat(times, 2),
    columns=len(images) // len(rows),
  )
  blank = Image.new("RGB", (1, 1))
  width = max(ImageDraw.Draw(blank).textlength(name) for name in rows)
  margin = int(width) + 2 * _MARGIN
  sheet = Image.new("RGB", (margin + grid.shape[1], len(grid)), "white")
  sheet.paste(Image.fromarray(grid), (margin, 0))
  draw = ImageDraw.Draw(sheet)
  for index, name in enumerate(rows):
    top = index * sheet.height // len(rows)
    draw.text((_MARGIN, top + _MARGIN), name, fill="black")
  return sheet
