"""What the demos share: reading pictures, keeping what the page shows, the end.

Pictures go to samples/ and figures to eval/ of the run, where `launch.report`
finds them.
"""

import dataclasses
import resource
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_collections
import numpy as np
from PIL import Image

from launch import datasets, demo_figures, pictures, report, tasks
from training import rundir

_BESIDE = 32  # pictures on each side


def read(
  config: ml_collections.ConfigDict, adapter: tasks.Adapter, split: str
) -> demo_figures.Pictures:
  """Reads all pictures of a split, as the task sees them, and their labels."""
  source = datasets.open_source(config, split)
  images, labels = [], []
  for batch in datasets.image_batches(config, adapter, source, 100):
    images.append(batch["image"][batch["mask"]])
    labels.append(batch["label"][batch["mask"]])
  return demo_figures.Pictures(np.concatenate(images), np.concatenate(labels))


def save(workdir: Path, step: int, name: str, image: np.ndarray) -> Path:
  """Puts a picture where the report of a run finds it; returns its path."""
  path = workdir / "samples" / f"{step}-{name}.png"
  path.parent.mkdir(exist_ok=True)
  Image.fromarray(image).save(path)
  return path


def beside(images: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Sets up to 32 pictures beside as many others, [n, h, w, 3] each."""
  shown = min(_BESIDE, len(images), len(others))
  grids = [pictures.grid(x[:shown], columns=8) for x in (images, others)]
  gap = np.full((len(grids[0]), 12, 3), 255, np.uint8)
  return np.hstack([grids[0], gap, grids[1]])


def in_rows(*columns: np.ndarray, rows: int | None = None) -> np.ndarray:
  """Sets pictures in a grid: row i shows the i-th of every column.

  Args:
    *columns: uint8 [n, h, w, 3], or several pictures [n, k, h, w, 3] a row.
    rows: how many to show; None for all.
  """
  many = [x if x.ndim == 5 else x[:, None] for x in columns]
  table = np.concatenate(many, axis=1)[:rows]
  return pictures.grid(
    table.reshape(-1, *table.shape[2:]), columns=table.shape[1]
  )


def keep(
  workdir: Path, step: int, figures: Sequence[demo_figures.Figure]
) -> None:
  """Writes the figures and their bars to eval/<step>/demo.json."""
  path = workdir / "eval" / str(step) / "demo.json"
  path.parent.mkdir(parents=True, exist_ok=True)
  described = [
    {**dataclasses.asdict(x), "value": float(x.value)} for x in figures
  ]
  rundir.write_json(path, {"figures": described})


def end(
  workdir: Path,
  figures: Sequence[demo_figures.Figure],
  began: float,
  shown: Mapping[str, Path],
) -> None:
  """Writes the page, and prints the table, the time and where things are.

  Args:
    workdir: of the run that the page is of.
    figures: measured.
    began: `time.monotonic()` at the start.
    shown: paths by what they show.
  """
  shown = {**shown, "page": report.write(workdir)}
  usage = resource.getrusage(resource.RUSAGE_SELF)
  cpu = usage.ru_utime + usage.ru_stime
  print(demo_figures.table(figures))
  print(f"{time.monotonic() - began:.0f} s, {cpu:.0f} CPU seconds")
  for name, path in shown.items():
    print(f"{name:<9} {path}")
