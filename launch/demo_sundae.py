"""The SUNDAE demo: denoise codes of the scenes, sample, inpaint, show.

    python -m launch.demo_sundae --workdir=runs/demo-sundae

Ten minutes on two CPU cores. Tokenizes the embedded dataset with the first
stage that ships (or another: --first_stage=runs/demo-vqgan), trains
`configs/sundae_scenes.py`, samples by class, inpaints halves of held-out
pictures, and ends with a table of figures beside their bars and the path of a
page with all pictures. Started again, it goes on where it was.
"""

import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from data.scenes import rules
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
from training import task as task_protocol

_NUM_SAMPLES = 128
_BATCH = 32
_INPAINTED = 32  # held-out pictures
_RESULTS = 3  # for each of them
_HIDDEN_MOST = 48  # of the pictures whose object is hidden, each once
_SHOWN = 6
# A main object is hidden where the kept half has at most this share of it.
_SEEN = 0.02
_HIDDEN = "hidden objects inpainted, colour right (share)"
_NULL = "the same without the class (share)"
_GREYED = "the same, the hole greyed before it is encoded (share)"
_CONTROL = (
  "the control of hidden objects without the class: the first stage sees a "
  "whole picture as it encodes it (attention, group norms), so that the codes "
  "that are kept can tell of the half that is not; here that half was grey "
  "before, which also makes codes unlike those of training, so that much is "
  "drawn grey"
)


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
  inpaint = functools.partial(
    inpaint_halves, run, job.state, jax.jit(run.task.sample)
  )
  few = demo_figures.Pictures(held_out.images[:count], held_out.labels[:count])
  given, results, kept = inpaint(few, results=_RESULTS)
  halves = _as_pictures(results, few.labels)
  figures = [
    *demo_figures.of_samples(samples, known, held_out, colour=0.9),
    demo_figures.Figure(
      "inpainted halves, colour right (share)",
      demo_figures.colour_right(halves),
      low=0.9,
      blind=demo_figures.colour_right_blind(halves),
    ),
    *of_hidden(held_out, _HIDDEN_MOST, inpaint),
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


def of_hidden(
  held_out: demo_figures.Pictures,
  most: int,
  inpaint: Callable[..., tuple[np.ndarray, np.ndarray, float]],
) -> list[demo_figures.Figure]:
  """Measures colours of main objects that lie in the hole; none of none.

  Elsewhere the half that is kept may show the object, and no model is needed.

  Args:
    held_out: pictures.
    most: of them that are inpainted.
    inpaint: `inpaint_halves` of pictures.
  """
  mine = rules.main_object(held_out.images)
  seen = mine[:, :, : mine.shape[2] // 2].sum((1, 2))
  whole = mine.sum((1, 2))
  hidden = np.flatnonzero((whole > 0) & (seen <= _SEEN * whole))[:most]
  if not len(hidden):
    return []
  pictures = demo_figures.Pictures(
    held_out.images[hidden], held_out.labels[hidden]
  )

  def figure(name, note="", **options):
    made = _as_pictures(inpaint(pictures, **options)[1], pictures.labels)
    right = demo_figures.colour_right(made)
    blind = demo_figures.colour_right_blind(made)
    return demo_figures.Figure(name, right, blind=blind, note=note)

  return [
    figure(_HIDDEN, note=f"{len(hidden)} pictures"),
    figure(_NULL, told=False),
    figure(_GREYED, note=_CONTROL, told=False, greyed=True),
  ]


def inpaint_halves(
  run: runs.Run,
  state: state_lib.State,
  draw: Callable[..., task_protocol.Samples],
  pictures: demo_figures.Pictures,
  *,
  results: int = 1,
  told: bool = True,
  greyed: bool = False,
) -> tuple[np.ndarray, np.ndarray, float]:
  """Makes the right halves of pictures anew.

  Args:
    run: opened.
    state: its state.
    draw: the compiled `sample` of its task.
    pictures: n of them.
    results: for each.
    told: the pictures' labels, or else the null class.
    greyed: whether the right halves are grey before they are encoded.

  Returns:
    What was given, uint8 [n, h, w, 3], the results [n, results, h, w, 3], and
    the share of kept codes that came back as they were.
  """
  task = run.task
  settings = sundae_sampling.make_settings(request.from_config(run.config))
  given = pictures.images.copy()
  given[:, :, given.shape[2] // 2 :] = 127
  rows = jnp.asarray(given if greyed else pictures.images)
  codes = jax.jit(task.codes)(state.frozen, {task.tokenizer.input: rows})
  wide = task.model.grid[1]
  repeat = lambda x: jnp.repeat(x, results, axis=0)
  keep = jnp.broadcast_to(jnp.arange(wide) < wide // 2, codes.shape)
  label = jnp.asarray(pictures.labels, jnp.int32)
  if not told:
    label = jnp.full_like(label, task.model.num_classes)
  condition = decode.Condition(repeat(label), repeat(codes), repeat(keep))
  keys = jax.random.split(jax.random.key(0), len(given) * results)
  samples = draw(state, keys, condition, settings)
  same = np.asarray(samples.tokens == condition.codes)[
    np.asarray(condition.keep)
  ]
  made = np.asarray(samples.images)
  made = made.reshape(len(given), results, *given.shape[1:])
  return given, made, float(same.mean())


def _as_pictures(results, labels):
  """Return results [n, k, h, w, 3] for labels [n] one after another."""
  flat = results.reshape(-1, *results.shape[2:])
  return demo_figures.Pictures(flat, np.repeat(labels, results.shape[1]))


def _spread(results):
  """Return the mean distance between results for one picture, as RMS."""
  labels = np.repeat(np.arange(len(results)), results.shape[1])
  flat = results.reshape(-1, *results.shape[2:])
  return demo_figures.within_class_distance(flat, labels)


if __name__ == "__main__":
  sys.exit(main())
