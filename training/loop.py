"""The one training loop: every task, exact on resume.

Batches are a pure function of the step, the step's key is folded from the
step, and what else decides the metrics' lines is noted in the checkpoint: so a
run that was killed and started again writes what an uninterrupted one writes.
"""

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TextIO

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from training import (
  checkpoint,
  hardware,
  preemption,
  rundir,
  sharding,
  stopwatch,
  trees,
)
from training import metrics as metrics_lib
from training import options as options_lib
from training import progress as progress_lib
from training import state as state_lib
from training import task as task_lib
from training import writer as writer_lib

# Non-finite steps in a row, or returns to one checkpoint, after which a run
# stops anyway; saves in a row that may fail.
MAX_SKIPS = 20
MAX_ROLLBACKS = 5
MAX_FAILED_SAVES = 3
_STATUS_SECONDS = 5.0
_LOG = logging.getLogger(__name__)


class NonFiniteError(ValueError):
  """A step gave nan or infinity.

  Attributes:
    step: the step.
  """

  def __init__(self, message: str, step: int):
    """Say what happened at which step."""
    super().__init__(message)
    self.step = step


def run(
  task: task_lib.Task,
  make_batches: Callable[[int], Iterator[Mapping[str, Any]]],
  options: options_lib.Options,
  directory: rundir.RunDirectory,
  mesh: Mesh,
  *,
  rule: sharding.Rule | None = None,
  measured: Any = None,
  frozen: Any = None,
  evaluators: Sequence[options_lib.Evaluator] = (),
  writers: Sequence[writer_lib.Writer] = (),
  stream: TextIO | None = None,
) -> options_lib.Finished:
  """Train from the newest good checkpoint, or from the start, to the end.

  Args:
    task: see `task.Task`.
    make_batches: from a step to the batches that follow it: dicts of global
      arrays, placed by `sharding.batch_sharding`, without an end.
    options: see `options.Options`.
    directory: an open run directory.
    mesh: where everything lives.
    rule: turns names and shapes into shardings (see `sharding.shardings`).
    measured: tree of host arrays for `task.init`.
    frozen: tree of host arrays for `state.frozen`; by default what `task.init`
      puts there. A resumed run takes the saved ones, which must be the same.
    evaluators: see `options.Evaluator`.
    writers: optional trackers; they cannot disturb the run.
    stream: shows progress there (`sys.stderr`); None is silent.
  Raises:
    NonFiniteError: nan or infinity, as `options.on_nan` says; names the step.
    checkpoint.CheckpointError: no good checkpoint, one of another model, or
      checkpoints that cannot be written.
    rundir.RunDirectoryError: the run directory cannot be written.
  """
  engine = _Engine(
    task, make_batches, options, directory, mesh, rule, measured, frozen
  )
  writer = writer_lib.FanOut(writers if directory.primary else ())
  stream = stream if directory.primary else None
  return engine.run(tuple(evaluators), writer, stream)


class _Engine:
  """The variables of the loop, and its parts as methods."""

  def __init__(
    self, task, make_batches, options, directory, mesh, rule, measured, frozen
  ):
    self.task, self.make_batches, self.options = task, make_batches, options
    self.directory, self.mesh, self.rule = directory, mesh, rule
    self.measured = {} if measured is None else measured
    self.frozen = None
    if frozen is not None:
      self.frozen = sharding.place({"frozen": frozen}, mesh, rule)["frozen"]
    self.init_key, self.key = jax.random.split(jax.random.key(options.seed))
    self.clock = stopwatch.Stopwatch()
    self.preemption = preemption.Preemption(mesh)
    self.batches = self.compiled = None
    # Metrics of settled steps since the last line; those of the newest step,
    # which may still be computing.
    self.pending: dict[str, metrics_lib.Mean] = {}
    self.newest: tuple[int, metrics_lib.Metrics] | None = None
    self.window = (0, 0.0)  # step and busy seconds at the last line
    self.status_time = 0.0
    self.skips = self.failed_saves = 0
    self.interrupted = False
    self.productive_at: dict[int, float] = {}
    self.rollbacks: dict[int, int] = {}
    self.left_out: set[int] = set()

  def run(self, evaluators, writer, stream) -> options_lib.Finished:
    """Do everything, and leave a status behind however it ends."""
    self.evaluators, self.writer = evaluators, writer
    self.step = 0
    self.progress = progress_lib.Progress(self.options.num_steps, stream)
    with contextlib.ExitStack() as stack:
      stack.callback(self.writer.close)
      stack.callback(self.progress.close)
      stack.enter_context(self.preemption)
      try:
        self.checkpointer = checkpoint.Checkpointer(
          self.directory.checkpoints, self.options.keep
        )
        self.write_status("starting")
        with self.progress.activity("starting"):
          self.begin()
        reason = self.train()
        self.close_batches()
        self.clock.switch("other")
      except BaseException as error:
        first = (str(error).splitlines() or [""])[0]
        self.write_status("failed", f"{type(error).__name__}: {first}")
        raise
    done = reason == "completed"
    self.write_status("completed" if done else "preempted", reason)
    _LOG.info("%s at step %d", reason, self.step)
    seconds = self.clock.seconds()
    return options_lib.Finished(self.state, self.step, reason, seconds)

  # The beginning.

  def init(self, key, measured, frozen):
    """`task.init`, with the frozen arrays that were given to the run."""
    state = self.task.init(key, measured)
    return state if frozen is None else state.replace(frozen=frozen)

  def begin(self) -> None:
    """Restore or initialise: sets `state`, `step` and `pending`."""
    arguments = (self.init_key, self.measured, self.frozen)
    shapes = jax.eval_shape(self.init, *arguments)
    restored = self.checkpointer.restore(
      shapes, self.mesh, self.rule, self.frozen
    )
    if restored is None:
      self.state = sharding.init(
        self.init, self.mesh, *arguments, rule=self.rule
      )
      self.step, info = 0, {"metrics_bytes": 0}
      table = trees.table(self.state.params)
      _LOG.info("starting with parameters\n%s", table)
      self.writer.texts(0, {"parameters": f"```\n{table}\n```"})
    else:
      self.state, self.step = restored.state, restored.step
      info = restored.info
      _LOG.info("resuming at step %d", self.step)
    self.newest = None
    self.pending = {
      name: metrics_lib.Mean(*pair)
      for name, pair in info.get("pending", {}).items()
    }
    self.directory.rewind(self.step, info.get("metrics_bytes"))
    self.progress.update(self.step)
    self.window = (self.step, self.busy())

  def compile(self, batch) -> None:
    """Compile the training step for the shapes of a batch."""
    where = jax.tree.map(lambda x: x.sharding, self.state)
    step = jax.jit(
      functools.partial(_guarded_step, self.task, self.options.on_nan),
      donate_argnums=0,
      out_shardings=(where, sharding.replicated(self.mesh)),
    )
    began = time.monotonic()
    with (
      self.clock.during("compile"),
      self.progress.activity("compiling the training step", announce=True),
    ):
      self.compiled = step.lower(self.state, batch, self.key).compile()
    _LOG.info("compiling took %.1f s", time.monotonic() - began)
    self.window = (self.step, self.busy())

  # The middle.

  def train(self) -> str:
    """Step to the end, or to a signal: the reason to stop."""
    self.clock.switch("productive")
    self.evaluate(reuse=True)
    while self.step < self.options.num_steps:
      try:
        if self.preemption.poll():
          self.save(wait=True)
          break
        self.advance()
        last = self.step == self.options.num_steps
        if last or self.step % self.options.checkpoint_every == 0:
          self.save(wait=False)
        self.evaluate()
      except (NonFiniteError, checkpoint.NonFiniteError) as error:
        if self.options.on_nan != "rollback":
          raise
        self.roll_back(error)
    self.wait_for_save(final=True)
    if self.step < self.options.num_steps or self.interrupted:
      return self.preemption.signal or "preempted"
    return "completed"

  def advance(self) -> None:
    """Dispatch one step, then look at the metrics of the one before."""
    if self.batches is None:
      self.batches = iter(self.make_batches(self.step))
    with self.clock.during("data_wait"):
      try:
        batch = next(self.batches)
      except StopIteration:
        raise ValueError(
          f"the batches ended at step {self.step} of {self.options.num_steps}: "
          "make_batches has to go on without an end"
        ) from None
    if self.compiled is None:
      self.compile(batch)
    if self.step + 1 in self.left_out:
      self.state, metrics = _leave_out(self.state), {}
    else:
      self.state, metrics = self.compiled(self.state, batch, self.key)
    self.step += 1
    before, self.newest = self.newest, (self.step, metrics)
    self.settle(before)

  def drain(self) -> None:
    """Wait for the newest step and settle it."""
    newest, self.newest = self.newest, None
    self.settle(newest)

  def settle(self, item: tuple[int, metrics_lib.Metrics] | None) -> None:
    """Fetch the metrics of a step: check, collect, write a line if due."""
    if item is None:
      return
    step, metrics = item
    metrics = metrics_lib.to_host(metrics)
    self.check(step, metrics)
    self.pending = metrics_lib.merge([self.pending, metrics])
    shown = metrics_lib.values(metrics).get(self.options.main_metric)
    self.progress.update(step, shown)
    if step % self.options.log_every == 0 or step == self.options.num_steps:
      self.write_metrics(step)
    elif time.monotonic() - self.status_time > _STATUS_SECONDS:
      self.write_status("running")

  def check(self, step: int, metrics: metrics_lib.Metrics) -> None:
    """Raise if a step was not finite; warn if it was left out."""
    bad = metrics_lib.nonfinite(metrics)
    if bad:
      raise NonFiniteError(
        f"{', '.join(bad[:4])} not finite at step {step}; the last good "
        f"checkpoint is {self.checkpointer.last_saved}",
        step,
      )
    skipped = metrics.get("train/skipped")
    if skipped is None or not skipped.total:
      self.skips = 0
      return
    self.skips += 1
    _LOG.warning("step %d was not finite; its update was left out", step)
    if self.skips >= MAX_SKIPS:
      raise NonFiniteError(
        f"{self.skips} steps in a row were not finite, up to step {step}", step
      )

  def save(self, wait: bool) -> None:
    """Save a checkpoint of this step, unless there is one."""
    self.drain()
    if self.productive_at.get(self.step) is not None:
      return
    info = {
      "pending": {
        name: [mean.total, mean.count] for name, mean in self.pending.items()
      },
      "metrics_bytes": self.directory.metrics_size(),
    }
    self.wait_for_save()
    with (
      self.clock.during("checkpoint"),
      self.progress.activity("saving a checkpoint"),
    ):
      try:
        self.checkpointer.save(self.state, info)
        self.productive_at[self.step] = self.clock.seconds()["productive"]
      except checkpoint.NonFiniteError:
        raise
      except checkpoint.CheckpointError as error:
        self.save_failed(error, final=wait)
    if wait:
      self.wait_for_save(final=True)

  def wait_for_save(self, final: bool = False) -> None:
    """Wait for the save in flight, and count failures."""
    with self.clock.during("checkpoint"):
      try:
        if self.checkpointer.wait() is not None:
          self.failed_saves = 0
      except checkpoint.CheckpointError as error:
        self.save_failed(error, final)

  def save_failed(self, error: Exception, final: bool) -> None:
    """Go on without a checkpoint, but not for ever."""
    self.failed_saves += 1
    if final or self.failed_saves >= MAX_FAILED_SAVES:
      raise error
    _LOG.error("%s. Going on; the next save is tried as usual", error)

  def evaluate(self, reuse: bool = False) -> None:
    """Run the evaluators that are due.

    Args:
      reuse: take what eval.json has for this step, after a restart.
    """
    last = self.step == self.options.num_steps
    due = [
      evaluator
      for evaluator in self.evaluators
      if evaluator.every > 0 and (last or self.step % evaluator.every == 0)
    ]
    if not due or self.step == 0:
      return
    self.drain()
    known = self.directory.evaluation(self.step) if reuse else {}
    for evaluator in due:
      if evaluator.name in known:
        self.directory.append(self.step, known[evaluator.name])
      elif not self.interrupted:
        self.run_evaluator(evaluator)

  def run_evaluator(self, evaluator: options_lib.Evaluator) -> None:
    """Run one evaluator and record its result; a signal ends it."""
    try:
      with (
        self.clock.during("evaluation"),
        self.progress.activity(f"evaluating {evaluator.name}"),
        self.preemption.interruptible(),
      ):
        result = evaluator.run(self.state, self.step)
    except preemption.Interrupted:
      self.interrupted = True
      return
    scalars = {name: float(x) for name, x in result.scalars.items()}
    for name, image in result.images.items():
      self.directory.save_image(self.step, name, image)
    self.directory.append(self.step, scalars)
    # Last: it marks the evaluator as done.
    self.directory.save_evaluation(self.step, evaluator.name, scalars)
    self.writer.scalars(self.step, scalars)
    self.writer.images(self.step, result.images)
    self.writer.texts(self.step, getattr(result, "texts", {}))

  def roll_back(self, error: Exception) -> None:
    """Return to the last checkpoint, to leave out the updates that led here.

    At the first return one update is left out, then twice as many each time.
    """
    bad = getattr(error, "step", self.step)
    _LOG.warning("%s; rolling back", error)
    self.close_batches()
    self.wait_for_save()
    with self.clock.during("lost"), self.progress.activity("rolling back"):
      self.begin()
    count = self.rollbacks[self.step] = self.rollbacks.get(self.step, 0) + 1
    if count > MAX_ROLLBACKS:
      raise NonFiniteError(
        f"step {bad} is not finite after {MAX_ROLLBACKS} returns to step "
        f"{self.step}: {error}",
        bad,
      ) from error
    first = max(self.step, bad - 2 ** (count - 1)) + 1
    self.left_out |= set(range(first, bad + 1))
    productive = self.clock.seconds()["productive"]
    self.clock.lose(productive - self.productive_at.get(self.step, 0.0))
    _LOG.warning(
      "back at step %d; leaving out the updates of %s",
      self.step,
      sorted(self.left_out),
    )

  # What others see.

  def write_metrics(self, step: int) -> None:
    """Write the line of a step and begin to collect anew."""
    values = metrics_lib.values(self.pending) | self.rates(step)
    self.pending = {}
    self.directory.append(step, values)
    self.writer.scalars(step, values)
    self.write_status("running")

  def rates(self, step: int) -> dict[str, float]:
    """Speed since the last line, evaluations and checkpoints left out."""
    before, busy = self.window
    self.window = (step, self.busy())
    steps, seconds = step - before, self.window[1] - busy
    if steps <= 0 or seconds <= 0:
      return {}
    rate = steps / seconds
    rates = {
      "perf/step_s": 1.0 / rate,
      "perf/examples_per_s": rate * self.options.batch_size,
    }
    peak = hardware.peak_flops(self.mesh.devices.flat[0])
    if peak is not None:
      flops = self.task.train_flops(self.options.batch_size)
      rates["perf/mfu"] = rate * flops / (peak * self.mesh.size)
    return rates

  def busy(self) -> float:
    """Seconds spent on steps and on waiting for their batches."""
    seconds = self.clock.seconds()
    return seconds["productive"] + seconds["data_wait"]

  def write_status(self, state: str, exit_reason: str | None = None) -> None:
    """Replace status.json."""
    self.status_time = time.monotonic()
    self.directory.write_status(
      state=state,
      step=self.step,
      total=self.options.num_steps,
      eta_s=self.progress.eta() if exit_reason is None else None,
      last_checkpoint=self.checkpointer.last_saved,
      exit_reason=exit_reason,
      seconds=self.clock.seconds(),
    )

  def close_batches(self) -> None:
    """Let the iterator of batches go."""
    close = getattr(self.batches, "close", None)
    if close is not None:
      close()
    self.batches = None


def _guarded_step(task, on_nan, state, batch, key):
  """`task.train_step`; leaves a non-finite update out if asked to."""
  new, metrics = task.train_step(state, batch, key)
  new = new.replace(frozen=state.frozen)
  if on_nan != "skip":
    return new, metrics
  moved, still = new.replace(frozen={}), state.replace(frozen={})
  good = metrics_lib.all_finite(metrics) & metrics_lib.tree_all_finite(moved)
  kept = jax.tree.map(lambda a, b: jnp.where(good, a, b), moved, still)
  new = kept.replace(step=new.step, frozen=state.frozen)
  metrics = {name: metrics_lib.as_mean(x) for name, x in metrics.items()}
  metrics = jax.tree.map(lambda x: jnp.where(good, x, 0.0), metrics)
  skipped = metrics_lib.Mean(1.0 - good.astype(jnp.float32), 1.0)
  return new, metrics | {"train/skipped": skipped}


@functools.partial(jax.jit, donate_argnums=0)
def _leave_out(state: state_lib.State) -> state_lib.State:
  """Count a step without its update."""
  return state.replace(step=state.step + 1)
