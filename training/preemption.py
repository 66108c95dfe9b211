"""Stop at a step boundary on SIGTERM or Ctrl-C, all processes at the same one.

The first signal asks; a second one exits at once.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(BaseException):
  """Raised inside `Preemption.interruptible` by the first signal."""


class Preemption:
  """Watches for signals while it is entered (in the main thread)."""

  def __init__(self, mesh: Mesh):
    """Watch for all processes of a mesh."""
    self.signal: str | None = None
    self._mesh = mesh
    self._before: dict[int, Any] = {}
    self._interruptible = False
    self._previous: jax.Array | None = None

  def __enter__(self) -> "Preemption":
    """Install the handlers."""
    if threading.current_thread() is threading.main_thread():
      for number in _SIGNALS:
        self._before[number] = signal.signal(number, self._handle)
    return self

  def __exit__(self, *_: Any) -> None:
    """Put the handlers of before back."""
    for number, handler in self._before.items():
      signal.signal(number, handler)
    self._before = {}

  def poll(self) -> bool:
    """Say whether to stop: every process gets the same answer.

    Every process calls it once a step. With several processes the answer is
    one step old, so that nothing waits for the newest step.
    """
    if jax.process_count() == 1:
      return self.signal is not None
    previous, self._previous = self._previous, self._ask()
    return previous is not None and bool(previous)

  @contextlib.contextmanager
  def interruptible(self) -> Iterator[None]:
    """Let the first signal raise `Interrupted` inside.

    Not with several processes: one that leaves would hang the others.
    """
    self._interruptible = jax.process_count() == 1
    try:
      if self._interruptible and self.signal is not None:
        raise Interrupted
      yield
    finally:
      self._interruptible = False

  def _handle(self, number: int, frame: Any) -> None:
    del frame
    if self.signal is not None:
      os._exit(128 + number)
    self.signal = signal.Signals(number).name
    if self._interruptible:
      raise Interrupted

  def _ask(self) -> jax.Array:
    """Start to add up the flags of all processes."""
    sharding = NamedSharding(self._mesh, P(self._mesh.axis_names))
    flag = np.int32(self.signal is not None)
    flags = jax.make_array_from_callback(
      (self._mesh.size,), sharding, lambda _: flag[None]
    )
    return _any(flags)


@jax.jit
def _any(flags: jax.Array) -> jax.Array:
  return jnp.max(flags)
