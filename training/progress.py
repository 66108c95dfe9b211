"""Show how far a run is: a bar on a terminal, heartbeat lines elsewhere."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import TextIO

import tqdm


class Progress:
  """Progress of one run. Silent without a stream."""

  def __init__(
    self,
    total: int,
    stream: TextIO | None = None,
    interval: float = 15.0,
    metric: str = "loss",
  ):
    """Begin to show.

    Args:
      total: last step of the run.
      stream: None shows nothing; a terminal gets a bar.
      interval: seconds between heartbeat lines.
      metric: what to call the number of `update`.
    """
    self._stream = stream
    self._start, self._step, self._total = 0, 0, total
    self._metric, self._value = metric, None
    self._activity: str | None = None
    self._began = self._since = time.monotonic()
    self._stepping: float | None = None
    self._closed = threading.Event()
    self._bar = None
    self._thread = None
    if stream is not None and stream.isatty():
      self._bar = tqdm.tqdm(
        total=total, file=stream, unit="step", mininterval=0.5
      )
    elif stream is not None:
      self._thread = threading.Thread(
        target=self._beat, args=(interval,), name="heartbeat", daemon=True
      )
      self._thread.start()

  def update(self, step: int, value: float | None = None) -> None:
    """Say that `step` is done, and its metric if it is known."""
    if (value is not None and self._stepping is None) or step < self._step:
      # The first step and what was thrown away say nothing about the rate.
      self._stepping, self._start = time.monotonic(), step
    if self._bar is not None:
      if value is not None:
        self._bar.set_postfix({self._metric: f"{value:.4g}"}, refresh=False)
      self._bar.update(step - self._step)
    self._step = step
    if value is not None:
      self._value = value

  @contextlib.contextmanager
  def activity(self, name: str, announce: bool = False) -> Iterator[None]:
    """Name what happens instead of steps ("compiling"), and for how long."""
    before = self._activity, self._since
    self._activity, self._since = name, time.monotonic()
    if announce:
      self.say(f"{name} ...")
    if self._bar is not None:
      self._bar.set_description(name)
    try:
      yield
    finally:
      if announce:
        self.say(f"{name} took {time.monotonic() - self._since:.1f} s")
      self._activity, self._since = before
      if self._bar is not None:
        self._bar.set_description(self._activity)

  def say(self, text: str) -> None:
    """Print a line."""
    if self._bar is not None:
      self._bar.write(text, file=self._stream)
    elif self._stream is not None:
      print(text, file=self._stream, flush=True)

  def eta(self) -> float | None:
    """Seconds to the end at the present rate; None before there is one."""
    done = self._step - self._start
    if self._stepping is None or done <= 0:
      return None
    rate = (time.monotonic() - self._stepping) / done
    return rate * (self._total - self._step)

  def close(self) -> None:
    """Stop showing."""
    self._closed.set()
    if self._thread is not None:
      self._thread.join()
    if self._bar is not None:
      self._bar.close()

  def _beat(self, interval: float) -> None:
    while not self._closed.wait(interval):
      self.say(self._line())

  def _line(self) -> str:
    parts = [f"step {self._step}/{self._total}"]
    if self._value is not None:
      parts.append(f"{self._metric} {self._value:.4g}")
    left = self.eta()
    if left is not None:
      parts.append(f"{duration(left)} left")
    if self._activity is not None:
      spent = time.monotonic() - self._since
      parts.append(f"{self._activity} for {duration(spent)}")
    return ", ".join(parts)


def duration(seconds: float) -> str:
  """Write seconds as 1:02:03 or 2:03."""
  whole = round(seconds)
  hours, minutes = divmod(whole // 60, 60)
  if hours:
    return f"{hours}:{minutes:02d}:{whole % 60:02d}"
  return f"{minutes}:{whole % 60:02d}"
