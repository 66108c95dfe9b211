"""Send scalars, pictures and texts to any number of optional trackers.

Each tracker has its own thread and a bounded queue: one that raises is turned
off with one line in the log, one that hangs loses what does not fit. Neither
changes the training.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np

_LOG = logging.getLogger(__name__)


class Writer(Protocol):
  """A tracker. Every method may raise."""

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Write numbers by name."""
    ...

  def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Write pictures by name, uint8 [h, w, 3]."""
    ...

  def texts(self, step: int, texts: Mapping[str, str]) -> None:
    """Write texts by name."""
    ...

  def close(self) -> None:
    """Flush and close."""
    ...


class FanOut:
  """A `Writer` that passes everything on and never blocks or raises."""

  def __init__(
    self, writers: Iterable[Writer], depth: int = 256, patience: float = 10.0
  ):
    """Start a thread for each writer.

    Args:
      writers: the trackers.
      depth: calls that wait for a slow one before some are lost.
      patience: seconds that `close` waits for them in all.
    """
    self._lanes = [_Lane(writer, depth) for writer in writers]
    self._patience = patience

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """See `Writer`."""
    self._call("scalars", step, dict(values))

  def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """See `Writer`."""
    self._call("images", step, dict(images))

  def texts(self, step: int, texts: Mapping[str, str]) -> None:
    """See `Writer`."""
    self._call("texts", step, dict(texts))

  def close(self) -> None:
    """Give the writers some seconds to finish, then go on without them."""
    deadline = time.monotonic() + self._patience
    for lane in self._lanes:
      lane.close(deadline)

  def _call(self, *call: Any) -> None:
    for lane in self._lanes:
      lane.put(call)


class _Lane:
  """One writer, its queue and its thread."""

  def __init__(self, writer: Writer, depth: int):
    self._writer = writer
    self._name = type(writer).__name__
    self._queue: queue.Queue[tuple] = queue.Queue(depth)
    self._off = False
    self._lost = 0
    self._thread = threading.Thread(
      target=self._work, name=f"writer-{self._name}", daemon=True
    )
    self._thread.start()

  def put(self, call: tuple) -> None:
    if self._off:
      return
    try:
      self._queue.put_nowait(call)
    except queue.Full:
      if not self._lost:
        _LOG.warning("%s is too slow: some of its entries are lost", self._name)
      self._lost += 1

  def close(self, deadline: float) -> None:
    if self._off:
      return
    left = lambda: max(0.0, deadline - time.monotonic())
    with contextlib.suppress(queue.Full):
      self._queue.put(("close",), timeout=left())
    self._thread.join(left())
    if self._thread.is_alive():
      _LOG.warning("%s did not finish and was left behind", self._name)

  def _work(self) -> None:
    try:
      while True:
        method, *arguments = self._queue.get()
        getattr(self._writer, method)(*arguments)
        if method == "close":
          return
    except Exception as error:
      self._off = True
      _LOG.warning("%s failed and is off: %r", self._name, error)
