"""The demo of priors over codes: by class, by label map, completed, enlarged.

    python -m launch.demo_prior --workdir=runs/demo-prior

Ten minutes on two CPU cores. Tokenizes the embedded dataset with the first
stage that ships (or another: --first_stage=runs/demo-vqgan), trains
`configs/prior_scenes.py` by class and by segmentation, completes upper halves
of held-out pictures, slides a window over one larger than trained, and ends
with a table of figures beside their bars and the path of a page with all
pictures. Started again, it goes on where it was.
"""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from data.scenes import rules
from launch import (
  datasets,
  demo_figures,
  demo_frame,
  demo_sundae,
  errors,
  evaluate,
  flags,
  pictures,
  request,
  sample,
  setup,
  train,
)
from vqgan import decode, prior_task

_TEMPERATURE = 0.9
_OF_MAPS = 0.5  # a label map leaves less open
_NUM_SAMPLES = 128
_BATCH = 32
_COMPLETED = 32  # held-out pictures
_RESULTS = 3  # for each of them
_SHOWN = 6
_LARGE = (1.5, 2.0)  # times the trained rows and columns


@errors.command
def main(argv: list[str]) -> int:
  """Runs the command."""
  parser = flags.Parser(__doc__, "launch.demo_prior")
  add = parser.add_argument
  add("--workdir", type=Path, default=Path("runs/demo-prior"), help="of it")
  add("--first_stage", default="vqgan_scenes", help="a run, or what ships")
  add("--tiny", action="store_true", help="everything small: to try it")
  args = parser.parse_arguments(argv)
  setup.start("auto")
  setup.log_to_terminal()
  began = time.monotonic()
  scenes = {}
  for form in ("class", "segmentation"):
    arg = f"{form},tiny" if args.tiny else form
    scenes[form] = flags.load(f"configs/prior_scenes.py:{arg}")
    config = demo_sundae.with_codes(
      scenes[form], args.first_stage, args.workdir / "codes"
    )
    finished = train.train(config, args.workdir / form, stream=sys.stderr)
    if finished.reason != "completed":
      print(f"{finished.reason}: the same command goes on")
      return train.EXIT_RESUMABLE
  batch = 8 if args.tiny else _BATCH
  run = args.workdir / "class"
  figures = [
    *by_class(run, scenes["class"], batch),
    *by_segmentation(args.workdir / "segmentation", run, batch),
  ]
  demo_frame.keep(run, evaluate.open_job(run).step, figures)
  shown = {"samples": run / "demo" / "grid.png"}
  demo_frame.end(run, figures, began, shown)
  return 0


def by_class(workdir: Path, scenes, batch: int) -> list[demo_figures.Figure]:
  """Samples by class, completes halves, draws a larger picture.

  Args:
    workdir: of a finished run.
    scenes: the config of the pictures that the codes are of.
    batch: samples at a time.
  """
  job = evaluate.open_job(workdir)
  run = job.run
  content = evaluate.evaluate(job, "likelihood")
  evaluate.write(job, "likelihood", content)
  dealt = evaluate.rates_of_dealt_labels(job)
  asked = request.from_config(run.config, temperature=_TEMPERATURE)
  out = workdir / "demo"
  num = _NUM_SAMPLES if batch == _BATCH else 4 * batch
  sample.draw(run, asked, num, out, batch=batch, stream=sys.stderr)
  drawn = sample.load(out)
  samples = demo_figures.Pictures(drawn["image"], drawn["label"])
  read = lambda split: demo_frame.read(scenes, run.adapter, split)
  held_out, known = read(scenes.data.eval_split), read(scenes.data.split)
  decoded = demo_frame.read(run.config, run.adapter, run.config.data.eval_split)

  count = min(_COMPLETED, len(held_out.images))
  given, results, kept = complete_halves(run, job.state, held_out, count)
  halves = demo_figures.Pictures(
    results.reshape(-1, *results.shape[2:]),
    np.repeat(held_out.labels[:count], _RESULTS),
  )
  sides = tuple(
    int(times * side) for times, side in zip(_LARGE, scenes.data.size)
  )
  large = request.from_config(run.config, temperature=_TEMPERATURE, size=sides)
  wide = workdir / "demo" / "large"
  sample.draw(run, large, 4, wide, batch=4, stream=sys.stderr)

  save = lambda name, image: demo_frame.save(workdir, job.step, name, image)
  save(
    "samples-beside-real", demo_frame.beside(samples.images, held_out.images)
  )
  save(
    "given-results-real",
    demo_frame.in_rows(given, results, held_out.images[:count], rows=_SHOWN),
  )
  save("larger-than-trained", np.asarray(Image.open(wide / "grid.png")))
  return [
    demo_figures.Figure(
      "nats a code, held out",
      content["values"]["bits_per_element"] * np.log(2),
      blind=dealt["bits_per_element"] * np.log(2),
    ),
    demo_figures.Figure(
      "first stage alone, colour right (share)",
      demo_figures.colour_right(decoded),
    ),
    *demo_figures.of_samples(samples, known, held_out, colour=0.9),
    demo_figures.Figure(
      "completed halves, colour right (share)",
      demo_figures.colour_right(halves),
      blind=demo_figures.colour_right_blind(halves),
    ),
    demo_figures.Figure("codes kept exactly (share)", kept, low=1.0),
  ]


def by_segmentation(
  workdir: Path, page: Path, batch: int
) -> list[demo_figures.Figure]:
  """Samples by label maps of held-out pictures, and compares the foreground.

  Args:
    workdir: of a finished run.
    page: the run whose report shows the pictures.
    batch: samples at a time.
  """
  job = evaluate.open_job(workdir)
  run = job.run
  asked = request.from_config(run.config, temperature=_OF_MAPS)
  out = workdir / "demo"
  num = 2 * batch
  sample.draw(run, asked, num, out, batch=batch, stream=sys.stderr)
  drawn = sample.load(out)
  source = datasets.open_source(run.config, run.config.data.eval_split)
  records = source.read(np.arange(num) % len(source))
  maps = np.stack([record["segmentation"] for record in records])
  labels = np.array([record["label"] for record in records])
  told = demo_figures.Pictures(drawn["image"], labels)
  shown = min(2 * 8, num)
  rows = np.stack([drawn["given"], drawn["image"]], axis=1)[:shown]
  demo_frame.save(
    page,
    evaluate.open_job(page).step,
    "maps-and-results",
    pictures.grid(rows.reshape(-1, *rows.shape[2:]), columns=8),
  )
  overlap = lambda maps: foreground_overlap(drawn["image"], maps)
  return [
    demo_figures.Figure(
      "foreground against the map (IoU)",
      overlap(maps > 0),
      low=0.7,
      blind=overlap(np.roll(maps > 0, 1, axis=0)),
    ),
    demo_figures.Figure(
      "colour as the map says (share)",
      demo_figures.colour_right(told),
      low=0.9,
      blind=demo_figures.colour_right_blind(told),
    ),
  ]


def foreground_overlap(images: np.ndarray, maps: np.ndarray) -> float:
  """Returns the mean intersection over union of foregrounds.

  Args:
    images: uint8 [n, h, w, 3]; their coloured pixels are their foreground.
    maps: bool [n, h, w].
  """
  seen = rules.foreground(images)
  both = (seen & maps).sum((1, 2))
  either = (seen | maps).sum((1, 2))
  return float(np.mean(both / np.maximum(either, 1)))


def complete_halves(run, state, held_out: demo_figures.Pictures, count: int):
  """Draws the lower halves of pictures anew, told their labels.

  Returns:
    What was given, uint8 [n, h, w, 3], the results [n, results, h, w, 3], and
    the share of kept codes that came back as they were.
  """
  task = run.task
  rows = jnp.asarray(held_out.images[:count])
  codes = jax.jit(task.codes)(state.frozen, {task.tokenizer.input: rows})
  high, wide = task.grid
  repeat = lambda x: jnp.repeat(x, _RESULTS, axis=0)
  keep = jnp.arange(high)[:, None] < high // 2
  given = prior_task.Given(
    label=repeat(jnp.asarray(held_out.labels[:count], jnp.int32)),
    codes=repeat(codes),
    keep=repeat(jnp.broadcast_to(keep, codes.shape)),
  )
  keys = jax.random.split(jax.random.key(0), count * _RESULTS)
  draw = lambda state, keys, given: task.sample(
    state,
    keys,
    given,
    decode.Settings.create(_TEMPERATURE),
    known=high // 2 * wide,
  )
  samples = jax.jit(draw)(state, keys, given)
  same = np.asarray(samples.tokens == given.codes)[np.asarray(given.keep)]
  seen = held_out.images[:count].copy()
  seen[:, seen.shape[1] // 2 :] = 127
  results = np.asarray(samples.images)
  results = results.reshape(count, _RESULTS, *seen.shape[1:])
  return seen, results, float(same.mean())


if __name__ == "__main__":
  sys.exit(main())
