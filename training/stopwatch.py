"""Account for every second of a run (goodput)."""

import contextlib
import time
from collections.abc import Callable, Iterator

PHASES = (
  "other",
  "compile",
  "productive",
  "data_wait",
  "checkpoint",
  "evaluation",
  "lost",
)


class Stopwatch:
  """Adds up the seconds spent in phases; they sum to the wall time.

  Steps run asynchronously, so `productive` is the time in which the host
  dispatches steps or waits for their metrics, and `data_wait` that in which it
  waits for a batch, whether or not the devices are busy. `other` is the start
  and the end.
  """

  def __init__(self, clock: Callable[[], float] = time.monotonic):
    """Start in the phase `other`."""
    self._clock = clock
    self._seconds = dict.fromkeys(PHASES, 0.0)
    self._phase = "other"
    self._began = self._last = clock()

  @contextlib.contextmanager
  def during(self, phase: str) -> Iterator[None]:
    """Count the time inside for `phase`, then go back to the one before."""
    before = self._phase
    self.switch(phase)
    try:
      yield
    finally:
      self.switch(before)

  def switch(self, phase: str) -> None:
    """Count from now on for `phase`."""
    now = self._clock()
    self._seconds[self._phase] += now - self._last
    self._phase, self._last = phase, now

  def lose(self, seconds: float) -> None:
    """Move productive seconds to `lost`: their work was thrown away."""
    self.switch(self._phase)
    seconds = min(seconds, self._seconds["productive"])
    self._seconds["productive"] -= seconds
    self._seconds["lost"] += seconds

  def seconds(self) -> dict[str, float]:
    """Seconds by phase, up to now."""
    self.switch(self._phase)
    return dict(self._seconds)

  def wall(self) -> float:
    """Seconds since the start."""
    return self._clock() - self._began
