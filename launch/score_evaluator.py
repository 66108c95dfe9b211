"""FID and the other scores inside training, on a schedule, of few images.

`config.eval.scores` says when and which: of samples, or of reconstructions
where a task draws none.
"""

import abc
import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from data import source as source_lib
from evaluation import compare, features, image_sets, moments, reference
from launch import (
  colourless_scores,
  datasets,
  errors,
  evaluators,
  flags,
  image_sources,
  reconstruction_scores,
  run_samples,
  runs,
  score_job,
  scores,
  split_statistics,
  tasks,
)
from training import state as state_lib
from training import task as task_lib
from weights import download

_logger = logging.getLogger(__name__)

# What images, and what they are compared with, may be guilty of.
_SPARED = (
  image_sets.ImageSetError,
  moments.FeatureError,
  reference.StatisticsError,
  source_lib.DataError,
)


def open_network(
  config: ml_collections.ConfigDict, task: task_lib.Task
) -> features.Network | None:
  """Loads Inception where scores are scheduled, else returns None.

  LPIPS is fetched where it is asked for.

  Before the first step: a run does not find out after a day that a metric is
  misspelt, or that the weights or the reference are absent.

  Raises:
    ValueError: `config.eval.scores` does not fit the task, no weights, or no
      statistics of these weights.
  """
  scored = config.eval.get("scores")
  if not scored or not scored.every:
    return None
  known = _known(task)
  for name in scored.metrics.split(","):
    if name not in known:
      raise errors.CommandError(
        f"eval.scores.metrics has no {name!r}{flags.did_you_mean(name, known)}"
      )
  if scored.num < 2 or scored.batch < 1:
    raise errors.CommandError(
      f"eval.scores.num {scored.num} must be at least 2, and eval.scores.batch"
      f" {scored.batch} at least 1"
    )
  if not tasks.offers(task, "sample") and colourless_scores.needed(config):
    return colourless_scores.no_network()
  net = scores.open_network(scored.inception, scored.preprocess)
  if scored.get("reference") and not tasks.offers(task, "sample"):
    raise errors.CommandError(
      "eval.scores.reference is of samples: reconstructions are compared with"
      " the evaluation split"
    )
  _given_reference(scored, net)
  if "lpips" in scored.metrics.split(","):
    _look_for_lpips(net)
  return net


def _look_for_lpips(net: features.Network) -> None:
  """Stops where LPIPS cannot be had; says it where it is left out."""
  if net.random:
    _logger.warning("%s", reconstruction_scores.WITHOUT_LPIPS)
    return
  try:
    scores.open_lpips()
  except download.WeightsMissing as error:
    raise errors.CommandError(
      f"{error}, or leave lpips out of eval.scores.metrics"
    ) from error


def _given_reference(
  scored: ml_collections.ConfigDict, net: features.Network
) -> reference.Statistics | None:
  """Reads `eval.scores.reference`, if there is one."""
  if not scored.get("reference"):  # runs from before it was a field lack it
    return None
  found = reference.load(scored.reference)
  reference.check_made_with(found, net)
  return found


def make(
  run: runs.Run, net: features.Network, mesh: Mesh, key: jax.Array
) -> "Scores | Reconstructions":
  """Makes the evaluator of a run that is being trained."""
  config, scored = run.config, run.config.eval.scores
  metrics = scored.metrics.split(",")
  if not tasks.offers(run.task, "sample"):
    return Reconstructions(run, net, mesh)
  drawn = config.sample.batch
  source = datasets.open_source(config, config.data.split)
  count = -(-scored.num // drawn) * drawn
  labels = run_samples.labels_of(config, source, count)
  return Scores(
    run_samples.make_sampler(run, key, labels),
    scored.num,
    drawn,
    scored.every,
    net,
    lambda: (
      _given_reference(scored, net)
      or split_statistics.open_or_make(run, source, net, scored.batch)
    ),
    metrics,
    scored.batch,
  )


class _Sparing(abc.ABC):
  """Scores that training goes on without where they cannot be had."""

  _unfit = ""  # why nothing can be compared with the reference

  def run(self, state: state_lib.State, step: int) -> evaluators.Result:
    """Scores a step; of what cannot be scored only a line in the log is left.

    A reference that does not serve is not tried again: it may take hours.
    """
    try:
      if self._unfit:
        raise reference.StatisticsError(self._unfit)
      found = self._score(state, step)
    except _SPARED as error:
      _logger.error("no scores at step %d: %s", step, error)
      if isinstance(error, reference.StatisticsError):
        self._unfit = self._unfit or f"{error}; a restart tries it again"
      return evaluators.Result({}, {}, failed=True)
    return evaluators.Result({f"eval/{k}": v for k, v in found.items()}, {})

  @abc.abstractmethod
  def _score(self, state: state_lib.State, step: int) -> Mapping[str, float]:
    """Returns scores by name, or raises one of _SPARED."""


class Scores(_Sparing):
  """Scores of samples 0 to num - 1, named by their number: eval/fid_adm_5k."""

  name = "scores"

  def __init__(
    self,
    sampler: tasks.Sampler,
    num: int,
    batch_size: int,
    every: int,
    net: features.Network,
    make_reference: Callable[[], reference.Statistics],
    metrics: Sequence[str] = compare.DEFAULT,
    extracted: int = 64,
  ):
    """Prepares; nothing is measured before the first `run`.

    Args:
      sampler: see `tasks.Sampler`.
      num: samples to score.
      batch_size: drawn at a time, always that many.
      every: steps between runs.
      net: Inception.
      make_reference: gives what samples are compared with.
      metrics: of `compare.METRICS`.
      extracted: images at a time through Inception, a process.
    """
    self.every = every
    self._sampler = sampler
    self._num = num
    self._batch_size = batch_size
    self._net = net
    self._make_reference = make_reference
    self._metrics = metrics
    self._extracted = extracted
    self._against: reference.Statistics | None = None

  def _score(self, state, step):
    if self._against is None:
      try:
        self._against = self._make_reference()
      except _SPARED as error:
        raise reference.StatisticsError(str(error)) from error
    net, against = self._net, self._against
    images = image_sets.ImageSet(
      f"samples of step {step}", self._num, lambda count: self._pieces(state)
    )
    extracted = features.extract(images, net, batch=self._extracted)
    found, _ = scores.score(
      extracted, net, images.name, against, against.features, self._metrics
    )
    return found

  def _pieces(self, state):
    for start in range(0, self._num, self._batch_size):
      indices = np.arange(start, start + self._batch_size, dtype=np.int32)
      drawn = self._sampler(state, indices)
      images, sizes = scores.host((drawn.images, drawn.sizes))
      left = self._num - start
      yield image_sources.cut(images[:left], sizes[:left])


class Reconstructions(_Sparing):
  """Scores of reconstructions of held-out images: eval/rfid_adm_1k, psnr.

  They are evenly spaced over the evaluation split.
  """

  name = "reconstruction"

  def __init__(self, run: runs.Run, net: features.Network, mesh: Mesh):
    """Prepares.

    Args:
      run: in training; `config.eval.scores` says the rest.
      net: Inception.
      mesh: where the state lives.
    """
    self._scored = run.config.eval.scores
    self.every = self._scored.every
    self._run, self._net, self._mesh = run, net, mesh

  def _score(self, state, step):
    source = datasets.open_source(
      self._run.config, self._run.config.data.eval_split
    )
    options: Any = argparse.Namespace(
      batch=self._scored.batch, size=0, no_average=False
    )
    job = score_job.Job(self._run, state, step, source, self._net, options)
    found = reconstruction_scores.reconstruct(
      job,
      self._scored.num,
      self._scored.metrics.split(","),
      self._mesh,
      # The scheduled evaluation counts them, of images of its own.
      count_codes=not self._run.config.eval.every,
      scheduled=True,
    )
    return found["scores"]


def _known(task: task_lib.Task) -> tuple[str, ...]:
  if tasks.offers(task, "sample"):
    return compare.METRICS
  return reconstruction_scores.METRICS
