"""The one training loop: every task, exact on resume.

Batches are a pure function of the step, the step's key is folded from the
step, and what else decides the metrics' lines is noted in the checkpoint: so a
run that was killed and started again writes what an uninterrupted one writes.
"""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TextIO

import jax
from jax.sharding import Mesh

from training import (
  checkpoint,
  guarded,
  preemption,
  reporting,
  rundir,
  sharding,
  trees,
)
from training import initial as initial_lib
from training import metrics as metrics_lib
from training import options as options_lib
from training import task as task_lib
from training import writer as writer_lib

# Non-finite steps in a row, or returns to one checkpoint, after which a run
# stops anyway; saves in a row that may fail.
MAX_SKIPS = 20
MAX_ROLLBACKS = 5
MAX_FAILED_SAVES = 3
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
  reporter = reporting.Reporter(
    options,
    directory,
    mesh,
    task.train_flops(options.batch_size),
    writers,
    stream,
  )
  spare = lambda: directory.best(options.best) if options.best else None
  saved = checkpoint.Checkpointer(directory.checkpoints, options.keep, spare)
  if frozen is not None:
    frozen = sharding.place({"frozen": frozen}, mesh, rule)["frozen"]
  initial = initial_lib.Initial(
    task, options.seed, mesh, rule, measured or {}, frozen
  )
  batches = _Batches(make_batches)
  engine = _Engine(
    task, options, initial, batches, tuple(evaluators), saved, reporter
  )
  with contextlib.closing(reporter), contextlib.closing(batches):
    return engine.run()


class _Batches:
  """The batches from any step on."""

  def __init__(self, make_batches):
    self._make, self._iterator = make_batches, None

  def next(self, step: int):
    """The batch after `step` steps; steps follow each other."""
    if self._iterator is None:
      self._iterator = iter(self._make(step))
    try:
      return next(self._iterator)
    except StopIteration:
      raise ValueError(
        f"the batches ended at step {step}: make_batches has to go on without "
        "an end"
      ) from None

  def close(self) -> None:
    """Let the iterator go; the next batch may be any."""
    close = getattr(self._iterator, "close", None)
    if close is not None:
      close()
    self._iterator = None


class _Engine:
  """The variables of the loop, and its parts as methods."""

  def __init__(
    self, task, options, initial, batches, evaluators, saved, reporter
  ):
    self.task, self.options, self.initial = task, options, initial
    self.batches, self.evaluators = batches, evaluators
    self.saved, self.reporter = saved, reporter
    self.clock, self.progress = reporter.clock, reporter.progress
    self.preemption = preemption.Preemption(initial.mesh)
    _, self.key = initial_lib.keys(options.seed)
    self.step = 0
    self.compiled: Callable | None = None
    # The newest step and its metrics, which may still be computing.
    self.newest: tuple[int, metrics_lib.Metrics] | None = None
    self.saved_step: int | None = None
    self.skips = self.failed_saves = 0
    self.interrupted = False
    # By step: productive seconds when it was saved, returns to it.
    self.productive: dict[int, float] = {}
    self.rollbacks: dict[int, int] = {}
    self.left_out: set[int] = set()

  def run(self) -> options_lib.Finished:
    """Do everything, and leave a status behind however it ends."""
    try:
      with self.preemption:
        self.status("starting")
        with self.progress.activity("starting"):
          self.begin()
        reason = self.train()
    except BaseException as error:
      # Alone, let the save in flight finish; others may be gone for ever.
      if jax.process_count() == 1:
        with contextlib.suppress(checkpoint.CheckpointError):
          self.saved.wait()
      first = (str(error).splitlines() or [""])[0]
      self.status("failed", f"{type(error).__name__}: {first}")
      raise
    self.clock.switch("other")
    done = reason == "completed"
    self.status("completed" if done else "preempted", reason)
    _LOG.info("%s at step %d", reason, self.step)
    seconds = self.clock.seconds()
    return options_lib.Finished(self.state, self.step, reason, seconds)

  def begin(self) -> None:
    """Restore or initialise."""
    restored = self.initial.restore(self.saved)
    self.newest = None
    if restored is None:
      self.state, self.step, note = self.initial.make(), 0, None
      table = trees.table(self.state.params)
      _LOG.info("starting with parameters\n%s", table)
      self.reporter.text(0, "parameters", table)
    else:
      self.state, self.step = restored.state, restored.step
      self.saved_step, note = restored.step, restored.info
      _LOG.info("resuming at step %d", self.step)
    self.reporter.restart(self.step, note)

  def train(self) -> str:
    """Step to the end, to `stop_at` or a signal: the reason to stop."""
    self.clock.switch("productive")
    self.evaluate(after_restart=True)
    while self.step < self.options.last_step:
      try:
        if self.preemption.poll():
          self.save(final=True)
          break
        self.advance()
        last = self.step == self.options.last_step
        if last or self.step % self.options.checkpoint_every == 0:
          self.save(final=last)
        self.evaluate()
      except (NonFiniteError, checkpoint.NonFiniteError) as error:
        if self.options.on_nan != "rollback":
          raise
        self.roll_back(error)
    self.wait_for_save(final=True)
    if self.step < self.options.num_steps or self.interrupted:
      paused = self.step >= self.options.last_step
      return self.preemption.signal or ("paused" if paused else "preempted")
    return "completed"

  def advance(self) -> None:
    """Dispatch one step, then look at the metrics of the one before."""
    with self.clock.during("data_wait"):
      batch = self.batches.next(self.step)
    train_step = self.compiled or self.compile(batch)
    if self.step + 1 in self.left_out:
      self.state, metrics = guarded.leave_out(self.state), {}
    else:
      self.state, metrics = train_step(self.state, batch, self.key)
    self.step += 1
    before, self.newest = self.newest, (self.step, metrics)
    self.settle(before)

  def compile(self, batch) -> Callable:
    """Compile the training step for the shapes of a batch."""
    skip = self.options.on_nan == "skip"
    where = jax.tree.map(lambda x: x.sharding, self.state)
    step = jax.jit(
      functools.partial(guarded.train_step, self.task, skip),
      donate_argnums=0,
      out_shardings=(where, sharding.replicated(self.initial.mesh)),
    )
    with (
      self.clock.during("compile"),
      self.progress.activity("compiling the training step", announce=True),
    ):
      self.compiled = step.lower(self.state, batch, self.key).compile()
    self.reporter.start_window(self.step)
    return self.compiled

  def drain(self) -> None:
    """Wait for the newest step and settle it."""
    newest, self.newest = self.newest, None
    self.settle(newest)

  def settle(self, item: tuple[int, metrics_lib.Metrics] | None) -> None:
    """Fetch the metrics of a step, check and report them."""
    if item is None:
      return
    step, metrics = item
    metrics = metrics_lib.to_host(metrics)
    self.check(step, metrics)
    self.reporter.step(step, metrics)
    if self.reporter.status_is_old():
      self.status("running")

  def check(self, step: int, metrics: metrics_lib.Metrics) -> None:
    """Raise if a step was not finite; warn if it was left out."""
    bad = metrics_lib.nonfinite(metrics)
    if bad:
      raise NonFiniteError(
        f"{', '.join(bad[:4])} not finite at step {step}; the last good "
        f"checkpoint is {self.saved.last_saved}",
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

  def save(self, final: bool) -> None:
    """Begin to save this step, unless it is saved; wait if it is `final`."""
    self.drain()
    if self.saved_step == self.step:
      return
    self.wait_for_save()
    with (
      self.clock.during("checkpoint"),
      self.progress.activity("saving a checkpoint"),
    ):
      try:
        self.saved.save(self.state, self.reporter.note())
        self.saved_step = self.step
      except checkpoint.NonFiniteError:
        raise
      except checkpoint.CheckpointError as error:
        self.save_failed(error, final)
    self.productive[self.step] = self.clock.seconds()["productive"]
    self.status("running")

  def wait_for_save(self, final: bool = False) -> None:
    """Wait for the save in flight, and count failures."""
    with self.clock.during("checkpoint"):
      try:
        if self.saved.wait() is not None:
          self.failed_saves = 0
      except checkpoint.CheckpointError as error:
        self.save_failed(error, final)

  def save_failed(self, error: Exception, final: bool) -> None:
    """Go on without a checkpoint, but not for ever."""
    self.failed_saves += 1
    if final or self.failed_saves >= MAX_FAILED_SAVES:
      raise error
    _LOG.error("%s. Going on; the next save is tried as usual", error)

  def evaluate(self, after_restart: bool = False) -> None:
    """Run the evaluators that are due at this step.

    After a restart those that were done are not run again.
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
    known = self.reporter.known(self.step) if after_restart else {}
    for evaluator in due:
      if evaluator.name in known:
        self.reporter.repeat(self.step, known[evaluator.name])
      elif not self.interrupted:
        self.run_evaluator(evaluator)
    if len(due) == len([x for x in self.evaluators if x.every > 0]):
      self.reporter.check_best()

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
    with self.clock.during("evaluation"):
      self.reporter.evaluation(self.step, evaluator.name, result)

  def roll_back(self, error: Exception) -> None:
    """Return to the last checkpoint, to leave out the updates that led here.

    At the first return one update is left out, then twice as many each time.
    """
    bad = getattr(error, "step", self.step)
    _LOG.warning("%s; rolling back", error)
    self.batches.close()
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
    self.clock.lose(productive - self.productive.get(self.step, 0.0))
    self.reporter.start_window(self.step)
    _LOG.warning(
      "back at step %d; leaving out the updates of steps %s",
      self.step,
      sorted(self.left_out),
    )
    self.evaluate(after_restart=True)

  def status(self, state: str, exit_reason: str | None = None) -> None:
    """Replace status.json."""
    self.reporter.status(state, self.step, self.saved.last_saved, exit_reason)
