"""Rejection sampling: of several draws of a sample, the one that scores best.

An acceptance rate of 0.05 keeps one draw of twenty (Esser et al. 2021, Table
4; Razavi et al. 2019, sec. 3.3). Each sample is chosen among its own draws, so
it stays the same however many are asked for.
"""

import math

import jax
import jax.numpy as jnp


def best(draw, score, keys, rate):
  """Draw 1 / rate candidates a sample and keep the best.

  Args:
    draw: keys [b] -> a tree of arrays [b, ...].
    score: that tree -> float [b]; larger is better, and anything than NaN.
    keys: [b] keys. The first candidates are those of plain sampling.
    rate: share of the draws to accept, in (0, 1].

  Returns:
    (the best candidates, their scores [b]).

  Raises:
    ValueError: the rate is out of its range.
  """
  if not 0 < rate <= 1:
    raise ValueError(f"acceptance rate {rate} must be in (0, 1]")

  def challenge(i, kept):
    found, scores = kept
    fresh = draw(jax.vmap(jax.random.fold_in, (0, None))(keys, i))
    other = score(fresh)
    wins = (other > scores) | jnp.isnan(scores)
    choose = lambda old, new: jnp.where(
      wins.reshape(-1, *[1] * (new.ndim - 1)), new, old
    )
    return jax.tree.map(choose, found, fresh), choose(scores, other)

  first = draw(keys)
  return jax.lax.fori_loop(
    1, math.ceil(1 / rate - 1e-9), challenge, (first, score(first))
  )
