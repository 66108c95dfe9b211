"""A writer for TensorBoard through clu; TensorFlow is imported on first use."""

import importlib.util
import logging
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

_LOG = logging.getLogger(__name__)
_NEEDED = ("tensorflow", "tensorboard", "clu")


def make(folder: str | os.PathLike) -> "TensorBoard | None":
  """Make the writer; None, with one line in the log, where libraries lack."""
  missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
  if missing:
    _LOG.info("no TensorBoard files: %s not installed", ", ".join(missing))
    return None
  return TensorBoard(folder)


class TensorBoard:
  """A `writer.Writer`; meant to be called from a thread of its own."""

  def __init__(self, folder: str | os.PathLike):
    """Name the folder; nothing is imported or written yet."""
    self._folder = os.fspath(folder)
    self._writer: Any = None

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Write numbers by name."""
    self._open().write_scalars(step, dict(values))

  def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Write pictures by name, uint8 [h, w, 3]."""
    batches = {name: image[None] for name, image in images.items()}
    self._open().write_images(step, batches)

  def texts(self, step: int, texts: Mapping[str, str]) -> None:
    """Write texts by name."""
    self._open().write_texts(step, dict(texts))

  def close(self) -> None:
    """Flush and close."""
    if self._writer is not None:
      self._writer.close()

  def _open(self) -> Any:
    if self._writer is None:
      import tensorflow as tf
      from clu.metric_writers import summary_writer

      # The accelerators belong to JAX.
      tf.config.set_visible_devices([], "GPU")
      self._writer = summary_writer.SummaryWriter(self._folder)
    return self._writer
