"""The Inception Score (Salimans et al. 2016) in its two conventions.

exp of the mean KL divergence from p(class | image) to p(class), the marginal
being that of a split of the images; the score is the mean over splits.
"""

import itertools

import numpy as np
import scipy.special

from evaluation import moments

ADM_SPLIT = 5000
SPLITS = 10  # torch-fidelity's
_SHUFFLE_SEED = 2020  # torch-fidelity's


def adm(logits: np.ndarray, split: int = ADM_SPLIT) -> float:
  """Scores consecutive splits of 5000, the last partial one included.

  Args:
    logits: [b, classes], in the order of sampling.
    split: Images in a split.
  """
  logits = moments.check_finite(logits)
  starts = range(0, len(logits), split)
  return float(np.mean([_score(logits[i : i + split]) for i in starts]))


def torch_fidelity(
  logits: np.ndarray, splits: int = SPLITS, shuffle: bool = True
) -> tuple[float, float]:
  """Scores ten equal splits of the shuffled images: mean and deviation."""
  logits = moments.check_finite(logits)
  if len(logits) < splits:
    raise moments.FeatureError(
      f"{len(logits)} images do not make {splits} splits"
    )
  if shuffle:
    order = np.random.RandomState(_SHUFFLE_SEED).permutation(len(logits))
    logits = logits[order]
  edges = [i * len(logits) // splits for i in range(splits + 1)]
  scores = [_score(logits[a:b]) for a, b in itertools.pairwise(edges)]
  return float(np.mean(scores)), float(np.std(scores))


def _score(logits: np.ndarray) -> float:
  log_p = scipy.special.log_softmax(np.float64(logits), axis=1)
  p = np.exp(log_p)
  # log p(class) is finite wherever p is not zero.
  marginal = np.log(np.maximum(p.mean(0), np.finfo(np.float64).tiny))
  return float(np.exp((p * (log_p - marginal)).sum(1).mean()))
