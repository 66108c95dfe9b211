"""What others see of a run: lines of metrics, status, progress, pictures."""

import time
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from jax.sharding import Mesh

from training import hardware, rundir, stopwatch
from training import metrics as metrics_lib
from training import options as options_lib
from training import progress as progress_lib
from training import writer as writer_lib

_STATUS_SECONDS = 5.0


class Reporter:
  """Collects the metrics of steps and writes them where they belong.

  The run directory gets everything; trackers and the terminal are optional.
  Its memory, the metrics since the last line, travels with the checkpoints.
  """

  def __init__(
    self,
    options: options_lib.Options,
    directory: rundir.RunDirectory,
    mesh: Mesh,
    train_flops: float,
    writers: Iterable[writer_lib.Writer],
    stream: TextIO | None,
  ):
    """Start the clock.

    Args:
      options: of the run.
      directory: of the run.
      mesh: its devices give the peak for perf/mfu.
      train_flops: of one step.
      writers: optional trackers.
      stream: for progress; None is silent.
    """
    primary = directory.primary
    self.clock = stopwatch.Stopwatch()
    self.progress = progress_lib.Progress(
      options.num_steps, stream if primary else None
    )
    self._options, self._directory = options, directory
    self._writer = writer_lib.FanOut(writers if primary else ())
    peak = hardware.peak_flops(mesh.devices.flat[0])
    self._flops_share = train_flops / (peak * mesh.size) if peak else None
    self._pending: dict[str, metrics_lib.Mean] = {}
    self._scalars: dict[str, float] = {}  # the newest of evaluators
    self._failed: set[str] = set()  # evaluators, when they last ran
    self._window = (0, 0.0)  # step and busy seconds at the last line
    self._status_time = 0.0

  def note(self) -> dict[str, Any]:
    """What a checkpoint has to remember so that the lines go on exactly."""
    pending = {
      name: [mean.total, mean.count] for name, mean in self._pending.items()
    }
    size = self._directory.metrics_size()
    return {"pending": pending, "metrics_bytes": size}

  def restart(self, step: int, note: Mapping[str, Any] | None) -> None:
    """Go on from a checkpoint and its note, or from the beginning."""
    note = {"pending": {}, "metrics_bytes": 0} if note is None else note
    self._pending = {
      name: metrics_lib.Mean(*pair) for name, pair in note["pending"].items()
    }
    self._directory.rewind(step, note["metrics_bytes"])
    self.progress.update(step)
    self.start_window(step)

  def step(self, step: int, metrics: metrics_lib.Metrics) -> None:
    """Take the host metrics of a step; write a line if one is due."""
    self._pending = metrics_lib.merge([self._pending, metrics])
    shown = metrics_lib.values(metrics).get(self._options.main_metric)
    self.progress.update(step, shown)
    options = self._options
    if step % options.log_every == 0 or step == options.num_steps:
      values = metrics_lib.values(self._pending) | self._rates(step)
      self._pending = {}
      self._directory.append(step, values)
      self._writer.scalars(step, values)

  def evaluation(
    self, step: int, name: str, result: options_lib.Result
  ) -> None:
    """Record the result of an evaluator, unless it has failed."""
    if getattr(result, "failed", False):
      self._failed.add(name)
      return
    self._failed.discard(name)
    scalars = {key: float(x) for key, x in result.scalars.items()}
    self._scalars |= scalars
    for key, image in result.images.items():
      self._directory.save_image(step, key, image)
    self._directory.append(step, scalars)
    # Last, because it marks the evaluator as done (see `known`).
    self._directory.save_evaluation(step, name, scalars)
    self._writer.scalars(step, scalars)
    self._writer.images(step, result.images)
    self._writer.texts(step, getattr(result, "texts", {}))

  def known(self, step: int) -> dict[str, dict[str, float]]:
    """The evaluators that are done at a step, with their scalars."""
    return self._directory.evaluation(step)

  def check_best(self) -> None:
    """Raise ValueError if no evaluator has given the scalar `best`.

    One that has failed might have: nothing is known then.
    """
    best = self._options.best
    if self._failed or not best or not self._scalars:
      return
    if best not in self._scalars:
      raise ValueError(
        f"train.best {best!r} is no scalar of an evaluation: choose one of "
        + ", ".join(self._scalars)
      )

  def repeat(self, step: int, scalars: Mapping[str, float]) -> None:
    """Write the line of a known evaluation again."""
    self._scalars |= scalars
    self._directory.append(step, scalars)

  def text(self, step: int, name: str, text: str) -> None:
    """Pass a text to the trackers."""
    self._writer.texts(step, {name: f"```\n{text}\n```"})

  def status_is_old(self) -> bool:
    """Whether it is time to write the status again."""
    return time.monotonic() - self._status_time > _STATUS_SECONDS

  def status(
    self,
    state: str,
    step: int,
    last_checkpoint: int | None,
    exit_reason: str | None = None,
  ) -> None:
    """Replace status.json."""
    self._status_time = time.monotonic()
    self._directory.write_status(
      state=state,
      step=step,
      total=self._options.num_steps,
      eta_s=self.progress.eta() if exit_reason is None else None,
      last_checkpoint=last_checkpoint,
      exit_reason=exit_reason,
      seconds={k: round(x, 3) for k, x in self.clock.seconds().items()},
    )

  def start_window(self, step: int) -> None:
    """Measure the speed from here."""
    self._window = (step, self._busy())

  def close(self) -> None:
    """Stop the progress and the trackers."""
    self.clock.switch("other")
    self.progress.close()
    self._writer.close()

  def _rates(self, step: int) -> dict[str, float]:
    """Speed since the last line, without evaluations and checkpoints."""
    before, busy = self._window
    self.start_window(step)
    steps, seconds = step - before, self._window[1] - busy
    if steps <= 0 or seconds <= 0:
      return {}
    rate = steps / seconds
    rates = {
      "perf/step_s": 1.0 / rate,
      "perf/examples_per_s": rate * self._options.batch_size,
    }
    if self._flops_share is not None:
      rates["perf/mfu"] = rate * self._flops_share
    return rates

  def _busy(self) -> float:
    """Seconds spent on steps and on waiting for their batches."""
    seconds = self.clock.seconds()
    return seconds["productive"] + seconds["data_wait"]
