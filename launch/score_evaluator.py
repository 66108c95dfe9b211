"""FID and the other scores inside training, on a schedule, of few samples."""

from collections.abc import Callable, Sequence

import numpy as np

from evaluation import compare, features, image_sets, reference
from launch import evaluators, image_sources, scores, tasks
from training import state as state_lib


class Scores:
  """Scores of a small number of samples, named by it: eval/fid_adm_5k."""

  name = "scores"

  def __init__(
    self,
    sampler: tasks.Sampler,
    num: int,
    batch_size: int,
    every: int,
    open_network: Callable[[], features.Network],
    make_reference: Callable[[features.Network], reference.Statistics],
    metrics: Sequence[str] = compare.METRICS,
  ):
    """Prepares; nothing is loaded or measured before the first `run`.

    Args:
      sampler: see `tasks.Sampler`.
      num: samples to score.
      batch_size: drawn at a time, always that many.
      every: steps between runs.
      open_network: loads Inception.
      make_reference: gives what samples are compared with.
      metrics: of `compare.METRICS`.
    """
    self.every = every
    self._sampler = sampler
    self._num = num
    self._batch_size = batch_size
    self._open_network = open_network
    self._make_reference = make_reference
    self._metrics = metrics
    self._against: tuple | None = None

  def run(self, state: state_lib.State, step: int) -> evaluators.Result:
    """Draws samples 0 to num - 1, the same ones at every step, and scores."""
    if self._against is None:
      net = self._open_network()
      self._against = net, self._make_reference(net)
    net, against = self._against
    images = image_sets.ImageSet(
      f"samples of step {step}", self._num, lambda count: self._pieces(state)
    )
    extracted = features.extract(images, net, batch=self._batch_size)
    found, _ = scores.score(
      extracted, net, images.name, against, against.features, self._metrics
    )
    return evaluators.Result({f"eval/{k}": v for k, v in found.items()}, {})

  def _pieces(self, state):
    for start in range(0, self._num, self._batch_size):
      indices = np.arange(start, start + self._batch_size, dtype=np.int32)
      drawn = self._sampler(state, indices)
      images, sizes = scores.host((drawn.images, drawn.sizes))
      left = self._num - start
      yield image_sources.cut(images[:left], sizes[:left])
