"""The VQGAN demo: learn a codebook, then sharpen it with a discriminator.

    python -m launch.demo_vqgan --workdir=runs/demo-vqgan

Ten minutes on two CPU cores. Renders the embedded dataset on first use, trains
`configs/vqgan_scenes.py` up to the start of its discriminator and measures,
goes on to the end and measures again. Ends with a table of figures beside their
bars, and a picture: real images, reconstructions without the discriminator,
and with it. Started again, it goes on where it was.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from data.scenes import rules
from evaluation import pixels
from launch import (
  code_usage,
  datasets,
  demo_figures,
  demo_frame,
  errors,
  evaluate,
  flags,
  pictures,
  setup,
  train,
)
from training import checkpoint, rundir

_SHOWN = 8  # columns of the picture
_PHASES = ("without", "with")
_ENLARGED = 2


@errors.command
def main(argv: list[str]) -> int:
  """Runs the command."""
  parser = flags.Parser(__doc__, "launch.demo_vqgan")
  parser.add_argument(
    "--workdir", type=Path, default=Path("runs/demo-vqgan"), help="of the run"
  )
  parser.add_argument(
    "--tiny", action="store_true", help="everything small: to try the command"
  )
  args = parser.parse_arguments(argv)
  config = flags.load(f"configs/vqgan_scenes.py:{'tiny' if args.tiny else ''}")
  setup.start(config.platform)
  setup.log_to_terminal()
  began = time.monotonic()
  ends = (config.adversary.start, config.train.num_steps)
  for phase, step in zip(_PHASES, ends, strict=True):
    if _looked(args.workdir, phase, step):
      continue
    if not _trained(config, args.workdir, step):
      print("stopped: the same command goes on")
      return train.EXIT_RESUMABLE
    look(args.workdir, phase, step)
  figures = judge(args.workdir)
  demo_frame.end(args.workdir, figures, began, {"pictures": draw(args.workdir)})
  return 0


def look(workdir: Path, phase: str, step: int) -> None:
  """Reconstructs the evaluation split; keeps figures and some pictures.

  Args:
    workdir: of a run.
    phase: what the figures are of, "without" or "with" a discriminator.
    step: of the checkpoint that ends this phase.

  Raises:
    CommandError: the run has gone on, and that checkpoint is not kept.
  """
  done = checkpoint.steps(rundir.RunDirectory(workdir).checkpoints)
  if step not in done:
    raise errors.CommandError(
      f"{workdir} is at step {max(done, default=0)} and keeps no checkpoint of "
      f"step {step}, where the part {phase} a discriminator ends: choose "
      "another --workdir"
    )
  job = evaluate.open_job(workdir, step=step)
  values, real, made = measure(job)
  path = _path(workdir, phase)
  path.parent.mkdir(exist_ok=True)
  np.savez(path.with_suffix(".npz"), real=real[:_SHOWN], made=made[:_SHOWN])
  rundir.write_json(path, {"step": job.step, "values": values})


def measure(
  job: evaluate.Job,
) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
  """Returns figures of the reconstructions, what is real, and what was made."""
  run = job.run
  batches = lambda: datasets.eval_batches(
    run.config, run.adapter, run.measured, job.source, job.mesh
  )
  step = jax.jit(run.task.reconstruct)
  made = np.concatenate(
    [
      np.asarray(step(job.state, batch))[np.asarray(batch["mask"])]
      for batch in batches()
    ]
  )
  real = np.concatenate(
    [
      batch["image"][batch["mask"]]
      for batch in datasets.image_batches(
        run.config, run.adapter, job.source, 64
      )
    ]
  )
  values = code_usage.measure(run.task, job.state, batches())
  values["psnr_db"] = float(pixels.psnr(made, real).mean())
  values["colour_right"] = float(
    np.mean(rules.colour(made) == rules.colour(real))
  )
  energies = [pixels.laplacian_energy(x).mean() for x in (made, real)]
  values["edges"] = float(energies[0] / energies[1])
  return values, real, made


def judge(workdir: Path) -> list[demo_figures.Figure]:
  """Puts both phases beside their bars, and writes what the report shows."""
  before, after = (_content(workdir, phase)["values"] for phase in _PHASES)
  figure = demo_figures.Figure
  lost = before["psnr_db"] - after["psnr_db"]
  off = [abs(float(np.log(values["edges"]))) for values in (before, after)]
  figures = [
    figure("PSNR, dB", before["psnr_db"], low=28),
    figure("codes used, of 256", before["codes_used"], low=200),
    figure("perplexity of the codes", before["codes_perplexity"], low=100),
    figure("colour right (share)", before["colour_right"], low=0.97),
    figure("Laplacian energy (of real)", before["edges"]),
    figure("PSNR lost to the discriminator, dB", lost, high=3),
    figure("codes used with it", after["codes_used"], low=200),
    figure("perplexity with it", after["codes_perplexity"], low=100),
    figure("colour right with it (share)", after["colour_right"], low=0.97),
    figure("Laplacian energy with it (of real)", after["edges"]),
    figure("its distance from real (of that before)", off[1] / off[0], high=1),
  ]
  demo_frame.keep(workdir, _content(workdir, "with")["step"], figures)
  return figures


def draw(workdir: Path) -> Path:
  """Shows real images above both reconstructions of each."""
  held = [
    np.load(_path(workdir, phase).with_suffix(".npz")) for phase in _PHASES
  ]
  rows = np.concatenate([held[0]["real"], *[x["made"] for x in held]])
  rows = rows.repeat(_ENLARGED, 1).repeat(_ENLARGED, 2)
  image = pictures.grid(rows, columns=len(held[0]["real"]))
  step = _content(workdir, "with")["step"]
  return demo_frame.save(workdir, step, "real-without-with", image)


def _trained(
  config: ml_collections.ConfigDict, workdir: Path, step: int
) -> bool:
  """Trains up to a step, unless that has been done."""
  done = checkpoint.steps(rundir.RunDirectory(workdir).checkpoints)
  if done and max(done) >= step:
    return True
  finished = train.train(config, workdir, stream=sys.stderr, stop_at=step)
  return finished.reason in ("paused", "completed")


def _looked(workdir: Path, phase: str, step: int) -> bool:
  """Says whether the figures of a phase are there, and of its own step."""
  if not _path(workdir, phase).is_file():
    return False
  return _content(workdir, phase)["step"] == step


def _path(workdir: Path, phase: str) -> Path:
  return workdir / "demo" / f"{phase}.json"


def _content(workdir: Path, phase: str) -> dict[str, Any]:
  return json.loads(_path(workdir, phase).read_text("utf-8"))


if __name__ == "__main__":
  sys.exit(main())
