"""The demo: train a small DCTransformer, sample, evaluate, show.

    python -m launch.demo --workdir=runs/demo
    python -m launch.demo --workdir=runs/demo-colorize --colorize

Ten minutes on two CPU cores. Renders the embedded dataset on first use, trains
`configs/dct_scenes.py`, and ends with a table of figures beside their bars and
the path of a page with all pictures. Started again, it goes on where it was.
"""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from dctransformer import dct, decode, prefix, sparse
from launch import (
  demo_figures,
  demo_frame,
  errors,
  evaluate,
  flags,
  request,
  sample,
  setup,
  train,
)

_TEMPERATURE = 0.9
_NUM_SAMPLES = 128
_BATCH = 64
_CONDITIONED = 6  # pictures that are upsampled or coloured
_RESULTS = 3  # for each of them
_MAX_BITS_OVER_JPEG = 0.75


@errors.command
def main(argv: list[str]) -> int:
  """Runs the command."""
  parser = flags.Parser(__doc__, "launch.demo")
  parser.add_argument("--workdir", type=Path, help="directory of the run")
  parser.add_argument(
    "--colorize", action="store_true", help="luma first, and colour pictures"
  )
  parser.add_argument(
    "--tiny", action="store_true", help="everything small: to try the command"
  )
  args = parser.parse_arguments(argv)
  parts = ["luma"] * args.colorize + ["tiny"] * args.tiny
  config = flags.load(f"configs/dct_scenes.py:{','.join(parts)}")
  default = "runs/demo-colorize" if args.colorize else "runs/demo"
  workdir = args.workdir or Path(default)
  setup.start(config.platform)
  setup.log_to_terminal()
  began = time.monotonic()
  finished = train.train(config, workdir, stream=sys.stderr)
  if finished.reason != "completed":
    print(f"{finished.reason}: the same command goes on")
    return train.EXIT_RESUMABLE
  figures = show(workdir, _BATCH if not args.tiny else 8)
  shown = {"samples": workdir / "demo" / "grid.png"}
  demo_frame.end(workdir, figures, began, shown)
  return 0


def show(workdir: Path, batch: int) -> list[demo_figures.Figure]:
  """Samples, measures and draws; returns the figures.

  Pictures go to samples/ and figures to eval/ of the run, where the report
  finds them.

  Args:
    workdir: of a finished run.
    batch: samples at a time.
  """
  job = evaluate.open_job(workdir)
  run = job.run
  content = evaluate.evaluate(job, "likelihood")
  evaluate.write(job, "likelihood", content)
  likelihood = content["values"]
  dealt = evaluate.rates_of_dealt_labels(job)
  asked = request.from_config(run.config, temperature=_TEMPERATURE)
  out = workdir / "demo"
  num = _NUM_SAMPLES if batch == _BATCH else 4 * batch
  sample.draw(run, asked, num, out, batch=batch, stream=sys.stderr)

  drawn = sample.load(out)
  samples = demo_figures.Pictures(drawn["image"], drawn["label"])
  read = lambda split: demo_frame.read(run.config, run.adapter, split)
  held_out, trained = (
    read(run.config.data.eval_split),
    read(run.config.data.split),
  )
  figures = [
    demo_figures.Figure(
      "bits, of optimised JPEG's",
      likelihood["bits_over_jpeg"],
      high=_MAX_BITS_OVER_JPEG,
      blind=dealt["bits_per_pixel"] / likelihood["jpeg_bits_per_pixel"],
    ),
    *demo_figures.of_lists(drawn, float(run.measured["mean_length"])),
  ]
  if run.config.model.order == "interleaved":
    figures += demo_figures.of_samples(samples, trained, held_out)
  kind = "upsample"
  if run.config.model.order == "luma_first":
    kind = "colorize"
  given, results = condition(run, job.state, held_out, kind)
  if kind == "colorize":
    coloured = demo_figures.Pictures(
      results.reshape(-1, *results.shape[2:]),
      np.repeat(held_out.labels[: len(results)], results.shape[1]),
    )
    figures.append(
      demo_figures.Figure(
        "coloured as the label says (share)",
        demo_figures.colour_right(coloured),
        low=0.8,
        blind=demo_figures.colour_right_blind(coloured),
      )
    )

  save = lambda name, image: demo_frame.save(workdir, job.step, name, image)
  save(
    "samples-beside-real", demo_frame.beside(samples.images, held_out.images)
  )
  save(
    f"{kind}-given-results-real",
    demo_frame.in_rows(given, results, held_out.images[: len(given)]),
  )
  for name in ("heat_maps", "progressive"):
    save(name, np.asarray(Image.open(out / f"{name}.png")))
  demo_frame.keep(workdir, job.step, figures)
  return figures


def condition(run, state, held_out, kind):
  """Draws results for given held-out pictures, all in one batch.

  Returns:
    What the model was given, decoded, uint8 [n, h, w, 3], and the results
    [n, results, h, w, 3].
  """
  task = run.task
  count = min(_CONDITIONED, len(held_out.images))
  images = held_out.images[:count]
  elements = sparse.to_elements(
    task.codec,
    dct.to_coefficients(task.codec, images),
    task.plan.max_elements,
  )
  start = prefix.take(task.codec, elements, kind)
  given = dct.to_image(task.codec, sparse.to_coefficients(task.codec, start))
  repeat = lambda x: jnp.repeat(x, _RESULTS, axis=0)
  blocks = np.array(images.shape[1:3], np.int32) // task.codec.block
  keys = jax.random.split(jax.random.key(0), count * _RESULTS)
  samples = jax.jit(task.sample)(
    state,
    keys,
    decode.Condition(
      label=repeat(jnp.asarray(held_out.labels[:count], jnp.int32)),
      blocks=jnp.tile(blocks, (count * _RESULTS, 1)),
      prefix=jax.tree.map(repeat, start),
      first_rank=jnp.full(
        (count * _RESULTS,), prefix.first_rank(task.codec, kind), jnp.int32
      ),
    ),
    decode.Settings.create(_TEMPERATURE),
  )
  results = np.asarray(samples.images)
  return np.asarray(given), results.reshape(count, _RESULTS, *images.shape[1:])


if __name__ == "__main__":
  sys.exit(main())
