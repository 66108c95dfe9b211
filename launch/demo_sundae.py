"""The SUNDAE demo: denoise codes of the scenes, sample, inpaint, show.

    python -m launch.demo_sundae --workdir=runs/demo-sundae

Ten minutes on two CPU cores. Tokenizes the embedded dataset with the first
stage that ships (or another: --first_stage=runs/demo-vqgan), trains
`configs/sundae_scenes.py`, samples by class, inpaints halves of held-out
pictures, and ends with a table of figures beside their bars and the path of a
page with all pictures. Started again, it goes on where it was.
"""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from launch import (
  animation,
  demo_figures,
  demo_frame,
  errors,
  evaluate,
  first_stages,
  flags,
  request,
  runs,
  sample,
  setup,
  tokenize,
  tokenize_flags,
  train,
)
from launch.adapters import sundae_sampling
from sundae import decode
from training import state as state_lib

_NUM_SAMPLES = 128
_BATCH = 32
_INPAINTED = 32  # held-out pictures
_RESULTS = 3  # for each of them
_SHOWN = 6


@errors.command
def main(argv: list[str]) -> int:
  """Runs the command."""
  parser = flags.Parser(__doc__, "launch.demo_sundae")
  add = parser.add_argument
  add("--workdir", type=Path, default=Path("runs/demo-sundae"), help="of it")
  add("--first_stage", default="vqgan_scenes", help="a run, or what ships")
  add("--tiny", action="store_true", help="everything small: to try it")
  args = parser.parse_arguments(argv)
  scenes = flags.load(f"configs/sundae_scenes.py:{'tiny' if args.tiny else ''}")
  setup.start(scenes.platform)
  setup.log_to_terminal()
  began = time.monotonic()
  config = with_codes(scenes, args.first_stage, args.workdir / "codes")
  run = args.workdir / "run"
  finished = train.train(config, run, stream=sys.stderr)
  if finished.reason != "completed":
    print(f"{finished.reason}: the same command goes on")
    return train.EXIT_RESUMABLE
  figures = show(run, scenes, 8 if args.tiny else _BATCH)
  names = {"samples": "grid.png", "denoising": "denoising.gif"}
  shown = {name: run / "demo" / file for name, file in names.items()}
  demo_frame.end(run, figures, began, shown)
  return 0


def with_codes(
  scenes: ml_collections.ConfigDict, first_stage: str, out: Path
) -> ml_collections.ConfigDict:
  """Tokenizes both splits, and returns the config that reads the codes.

  Args:
    scenes: a config of pictures.
    first_stage: see `first_stages.load`.
    out: where the codes go, or are.
  """
  job = tokenize.Job(first_stages.load(first_stage), scenes, out)
  for split in tokenize_flags.SPLITS:
    tokenize.tokenize(job, split, stream=sys.stderr)
  with scenes.unlocked():
    config = scenes.copy_and_resolve_references()
    config.data.source, config.data.dir = "codes", str(out)
    config.data.split, config.data.eval_split = tokenize_flags.SPLITS
    config.tokenizer.weights = ""
  config.lock()
  return config


def show(
  workdir: Path, scenes: ml_collections.ConfigDict, batch: int
) -> list[demo_figures.Figure]:
  """Samples, inpaints, measures and draws; returns the figures.

  Args:
    workdir: of a finished run.
    scenes: the config of the pictures that the codes are of.
    batch: samples at a time.
  """
  job = evaluate.open_job(workdir)
  run, out = job.run, workdir / "demo"
  asked = request.from_config(run.config, animate="gif")
  num = _NUM_SAMPLES if batch == _BATCH else 4 * batch
  sample.draw(run, asked, num, out, batch=batch, stream=sys.stderr)
  drawn = sample.load(out)
  samples = demo_figures.Pictures(drawn["image"], drawn["label"])
  read = lambda split: demo_frame.read(scenes, run.adapter, split)
  held_out, known = read(scenes.data.eval_split), read(scenes.data.split)

  count = min(_INPAINTED, len(held_out.images))
  given, results, kept = inpaint_halves(run, job.state, held_out, count)
  halves = demo_figures.Pictures(
    results.reshape(-1, *results.shape[2:]),
    np.repeat(held_out.labels[:count], _RESULTS),
  )
  figures = [
    *demo_figures.of_samples(samples, known, held_out, colour=0.9),
    demo_figures.Figure(
      "inpainted halves, colour right (share)",
      demo_figures.colour_right(halves),
      low=0.9,
      blind=demo_figures.colour_right_blind(halves),
    ),
    demo_figures.Figure("codes kept exactly (share)", kept, low=1.0),
    demo_figures.Figure(
      "distance between results (of real within a class)",
      _spread(results)
      / demo_figures.within_class_distance(held_out.images, held_out.labels),
    ),
    demo_figures.Figure("steps taken, mean", float(drawn["steps"].mean())),
  ]
  save = lambda name, image: demo_frame.save(workdir, job.step, name, image)
  save(
    "samples-beside-real",
    demo_frame.beside(samples.images, held_out.images),
  )
  rows = demo_frame.in_rows(
    given, results, held_out.images[:count], rows=_SHOWN
  )
  save("given-results-real", rows)
  frames = sundae_sampling.decode_history(
    run.task, job.state, drawn["history"][:_SHOWN]
  )
  strip = animation.write(out / "strip", frames, "strip")
  (workdir / "samples" / f"{job.step}-denoising.png").write_bytes(
    strip.read_bytes()
  )
  demo_frame.keep(workdir, job.step, figures)
  return figures


def inpaint_halves(
  run: runs.Run,
  state: state_lib.State,
  held_out: demo_figures.Pictures,
  count: int,
) -> tuple[np.ndarray, np.ndarray, float]:
  """Makes the right halves of pictures anew, told their labels.

  Args:
    run: opened.
    state: its state.
    held_out: pictures.
    count: how many of them.

  Returns:
    What was given, uint8 [n, h, w, 3], the results [n, results, h, w, 3], and
    the share of kept codes that came back as they were.
  """
  task = run.task
  settings = sundae_sampling.make_settings(request.from_config(run.config))
  rows = jnp.asarray(held_out.images[:count])
  codes = jax.jit(task.codes)(state.frozen, {task.tokenizer.input: rows})
  wide = task.model.grid[1]
  repeat = lambda x: jnp.repeat(x, _RESULTS, axis=0)
  keep = jnp.broadcast_to(jnp.arange(wide) < wide // 2, codes.shape)
  condition = decode.Condition(
    label=repeat(jnp.asarray(held_out.labels[:count], jnp.int32)),
    codes=repeat(codes),
    keep=repeat(keep),
  )
  keys = jax.random.split(jax.random.key(0), count * _RESULTS)
  samples = jax.jit(task.sample)(state, keys, condition, settings)
  same = np.asarray(samples.tokens == condition.codes)[
    np.asarray(condition.keep)
  ]
  results = np.asarray(samples.images)
  given = held_out.images[:count].copy()
  given[:, :, given.shape[2] // 2 :] = 127
  results = results.reshape(count, _RESULTS, *given.shape[1:])
  return given, results, float(same.mean())


def _spread(results):
  """Return the mean distance between results for one picture, as RMS."""
  labels = np.repeat(np.arange(len(results)), results.shape[1])
  flat = results.reshape(-1, *results.shape[2:])
  return demo_figures.within_class_distance(flat, labels)


if __name__ == "__main__":
  sys.exit(main())
