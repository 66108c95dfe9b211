"""Scores reconstructions that are no pictures in colour.

Shades of grey and depth give PSNR, SSIM and edges, label maps the share of
labels that are right. What looks at colours, as Inception and LPIPS do, is left
out and named in the notes, so no weights are needed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import ml_collections

from evaluation import features, likelihood
from launch import errors, reconstructions, score_job, scores

Batches = Callable[[], Iterable[Mapping[str, Any]]]

_PAIRED = ("psnr", "ssim", "edges")


def needed(config: ml_collections.ConfigDict) -> bool:
  """Says whether a run sees something else than pictures in colour."""
  data = config.data
  return data.get("target", "image") != "image" or data.get("channels", 3) != 3


def no_network() -> features.Network:
  """Returns what stands in a job for the network that nothing goes through."""

  def apply(params, images):
    raise AssertionError("only pictures in colour have features")

  none = scores.NO_NETWORK
  return features.Network(None, apply, none, none, False)


def score(
  job: score_job.Job,
  pairs: reconstructions.Reconstructions,
  batches: Batches,
  metrics: Sequence[str],
) -> tuple[dict[str, float], features.Features, list[str]]:
  """Compares what a first stage sees with its reconstructions.

  Args:
    job: of a first stage; its network is not looked at.
    pairs: of a split.
    batches: gives global batches of one pass over it.
    metrics: what was asked for; label maps are always compared label by label.

  Returns:
    The values by name, what stands for features of the reconstructions, and
    notes.
  """
  data = job.run.config.data
  maps = data.target == "segmentation"
  size = tuple(data.size)
  if job.args.size:
    if maps:
      raise errors.CommandError("label maps are not resized: leave out --size")
    size = (job.args.size,) * 2
  asked = [
    name
    for name in _PAIRED
    if name in metrics and not maps
    if min(size) >= scores.LEAST_SIDE.get(name, 1)
  ]
  if maps:
    found, count = _labels(job, batches)
  else:
    found, count = _pictures(job, pairs, asked)
  what = "label maps" if maps else "depth" if _depth(data) else "grey pictures"
  left_out = [name for name in metrics if name not in asked]
  notes = [f"of {what}, so without {', '.join(left_out)}"] if left_out else []
  if _depth(data):
    notes.append("depth is rounded to 8 bits for it")
  return found, features.Features(count, {}, {}, size, ""), notes


def _labels(job, batches) -> tuple[dict[str, float], int]:
  """Returns means of `eval_step`, accuracy and nats a label; of how many."""
  sums = likelihood.measure(
    jax.jit(job.run.task.eval_step),
    job.state,
    batches(),
    jax.random.key(job.run.config.seed),
  )
  means = {name: x / len(sums) for name, x in sums.totals().items()}
  return means, len(sums)


def _pictures(job, pairs, metrics) -> tuple[dict[str, float], int]:
  """Returns means over pairs of pictures, and how many these are."""
  sums, count = scores.PairSums(metrics), 0
  for some in pairs.pairs(job.args.batch):
    sums.add(some.made, some.real)
    count += len(some.made)
  return sums.means(), count


def _depth(data):
  return data.target == "depth"
