"""Draws samples from a trained run.

    python -m launch.sample --weights=dct_scenes --out=DIR
    python -m launch.sample --workdir=RUN --num_samples=64 --out=DIR
    python -m launch.sample --workdir=RUN --out=DIR --labels=0,5 --top_p=0.9
    python -m launch.sample --workdir=RUN --out=DIR --upsample=SMALL.png
    python -m launch.sample --workdir=RUN --out=DIR --colorize=GREY.png
    python -m launch.sample --workdir=RUN --out=DIR --complete=IMG --fraction=.3
    python -m launch.sample --workdir=RUN --out=DIR --condition=MAP.png
    python -m launch.sample --workdir=RUN --out=DIR --inpaint=IMG --mask=M.png

Writes DIR/images/*.png, DIR/grid.png, DIR/samples.npz (arr_0 uint8
[n, h, w, 3], labels, sizes, the steps that each took of a model that denoises,
the scores by which --score chose) and the model's own pictures. Sample i
depends on the seed and on i alone, however many are asked for; a job that was
stopped goes on with the same command.
"""

import dataclasses
import hashlib
import itertools
import math
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tqdm
from PIL import Image

from evaluation import archive, atomic, generation
from launch import (
  animation,
  errors,
  pictures,
  request,
  runs,
  sample_flags,
  setup,
  tasks,
  trained,
)
from training import sharding

# More pictures than this make no readable grid.
_SHOWN = 64
_ILLUSTRATED = 8


@errors.command
def main(argv: list[str]) -> int:
  """Runs the command."""
  args = sample_flags.parse(argv, __doc__)
  setup.start(args.platform)
  run = runs.open_run(args.workdir) if args.workdir else None
  run = run or trained.open_trained(args.weights)
  if not tasks.offers(run.adapter, "make_requested_sampler"):
    raise errors.CommandError(f"task {run.config.task} has nothing to sample")
  asked = sample_flags.to_request(run, args)
  folder = draw(
    run,
    asked,
    args.num_samples,
    args.out,
    seed=args.seed,
    batch=args.batch or run.config.sample.batch,
    average=not args.no_average,
    step=args.step,
    stream=sys.stderr,
  )
  for path in folder:
    print(path)
  return 0


def draw(
  run: runs.Run | trained.Trained,
  asked: request.Request,
  num: int,
  out: Path,
  *,
  seed: int = 0,
  batch: int = 16,
  average: bool = True,
  step: int | str | None = None,
  stream: Any = None,
) -> list[Path]:
  """Draws samples into a folder; see the module for what it holds.

  Args:
    run: opened.
    asked: settings.
    num: samples.
    out: folder; made if absent.
    seed: of the job.
    batch: drawn at a time, always that many, over the devices that divide it.
    average: sample with the moving average of the parameters.
    step: of the checkpoint; None takes the newest good one.
    stream: shows progress there; None is silent.

  Returns:
    The files and folders that were written.

  Raises:
    ValueError: the request does not fit the model, or `out` holds other
      samples.
    CommandError: `out` holds pictures of somebody else.
  """
  if any(out.glob("images/*")) and not generation.is_samples(out / "parts"):
    raise errors.CommandError(
      f"{out / 'images'} holds files that are not of samples", "another --out"
    )
  # As many devices as share a batch evenly.
  devices = jax.local_devices()
  devices = devices[: math.gcd(batch, len(devices))]
  mesh = sharding.make_mesh({"data": -1}, devices)
  restored = run.restore(mesh, average=average, step=step)
  key = jax.random.key(seed)
  sampler = run.adapter.make_requested_sampler(
    run.config, run.task, run.measured, key, asked
  )

  def sample(indices):
    placed = jax.device_put(indices, sharding.batch_sharding(mesh))
    drawn = sampler(restored.state, placed)
    arrays = {"image": drawn.images, "size": drawn.sizes, **drawn.info}
    tokens = jax.tree_util.tree_leaves_with_path(drawn.tokens)
    for path, leaf in tokens:
      arrays["tokens" + jax.tree_util.keystr(path)] = leaf
    return jax.device_get(arrays)

  with tqdm.tqdm(
    total=num,
    unit="sample",
    file=stream,
    disable=stream is None,
    desc="sampling (the first batch compiles)",
  ) as bar:
    samples = generation.generate(
      sample,
      num,
      batch,
      out / "parts",
      identity=_identity(run, asked, restored.step, seed, average),
      progress=lambda done, _: bar.update(done - bar.n),
    )
  structure = lambda: (
    jax.eval_shape(sampler, restored.state, np.zeros(batch, np.int32)).tokens
  )
  return _write(run, restored.state, asked, samples, structure, out)


def load(out: Path) -> dict[str, np.ndarray]:
  """Reads the arrays of all samples that `draw` wrote: image, label, ..."""
  parts = list(generation.open_samples(out / "parts").parts())
  return {name: np.concatenate([x[name] for x in parts]) for name in parts[0]}


def read_tokens(structure: Any, part: dict[str, np.ndarray]) -> Any:
  """Puts the tokens of a part back into their structure."""
  paths = jax.tree_util.tree_leaves_with_path(structure)
  leaves = [part["tokens" + jax.tree_util.keystr(path)] for path, _ in paths]
  return jax.tree.unflatten(jax.tree.structure(structure), leaves)


def _write(run, state, asked, samples, structure, out) -> list[Path]:
  """Writes the pictures and the archive of finished samples."""
  (out / "images").mkdir(parents=True, exist_ok=True)
  first = samples.part(0)
  small = [
    name for name in ("size", "label", "steps", "score") if name in first
  ]
  held: dict[str, list[np.ndarray]] = {name: [] for name in small}
  shown, index = [], 0
  for part in samples.parts():
    shown += list(part["image"][: max(_SHOWN - index, 0)])
    for image, (height, width) in zip(part["image"], part["size"]):
      path = out / "images" / f"{index:06d}.png"
      Image.fromarray(image[:height, :width]).save(path)
      index += 1
    for name in small:
      held[name].append(part[name])
  for after in itertools.count(index):
    path = out / "images" / f"{after:06d}.png"
    if not path.is_file():
      break
    path.unlink()  # more samples had been asked for before
  joined = {name: np.concatenate(parts) for name, parts in held.items()}
  sizes = joined.pop("size")
  labels = joined.pop("label", np.zeros(index, np.int32))
  high, wide = (int(side) for side in sizes.max(axis=0))
  atomic.replace(
    out / "samples.npz",
    lambda file: archive.write(
      file,
      {"labels": labels, "sizes": sizes, **joined},
      (part["image"][:, :high, :wide] for part in samples.parts()),
      (index, high, wide, 3),
    ),
  )
  written = [out / "images", out / "samples.npz", out / "grid.png"]
  grid = pictures.grid(np.stack(shown), sizes[:_SHOWN])
  Image.fromarray(grid).save(out / "grid.png")
  few = {name: array[:_ILLUSTRATED] for name, array in first.items()}
  sheets = {name: few[name] for name in ("given",) if name in few}
  if tasks.offers(run.adapter, "illustrate"):
    tokens = read_tokens(structure(), few)
    sheets |= run.adapter.illustrate(run.task, tokens)
  for name, rows in sheets.items():
    path = out / f"{name}.png"
    Image.fromarray(_sheet(few["image"], rows, few["size"])).save(path)
    written.append(path)
  if "history" in few:
    frames = run.adapter.decode_history(run.task, state, few["history"])
    path = animation.write(out / "denoising", frames, asked.animate)
    written.append(path)
  return written


def _sheet(images, rows, sizes):
  """Sets each sample beside the pictures [b, h, w, 3] or [b, n, h, w, 3]."""
  rows = rows[:, None] if rows.ndim == 4 else rows
  rows = np.concatenate([images[:, None], rows], axis=1)
  columns = rows.shape[1]
  return pictures.grid(
    rows.reshape(-1, *rows.shape[2:]),
    np.repeat(sizes, columns, axis=0),
    columns=columns,
  )


def _identity(run, asked, step, seed, average):
  """Says what decides the samples: another job may not mix with them."""
  fields = dataclasses.asdict(asked)
  if asked.at is None:  # as folders of before say it
    del fields["at"]
  return {
    "workdir": str(run.workdir.resolve()),
    "step": int(step),
    "seed": seed,
    "average": average,
    **{name: _plain(x) for name, x in fields.items()},
  }


def _plain(value):
  """Returns what JSON holds: lists, and the digest of an array."""
  if isinstance(value, np.ndarray):
    digest = hashlib.sha256(np.ascontiguousarray(value))
    return f"{value.dtype}{list(value.shape)} {digest.hexdigest()}"
  return list(value) if isinstance(value, tuple) else value


if __name__ == "__main__":
  sys.exit(main())
