"""Images larger than the trained grid: a window slides over the codes.

Each code is drawn from the window of the trained size that has it in its
middle, or as near to it as the image's edges allow (Esser et al. 2021, sec.
3.3, Fig. 3). Where the window of a row stands still, keys and values are kept;
where it moves every place changes its position, and is read again.

Shapes: b samples, h w rows and columns of the codes, m condition tokens, l
codes of a window. Only the order by rows can slide.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from vqgan import decode


def starts(length, size):
  """Return where the window of each place starts along an axis, int64.

  The place is in the middle of its window, except near both ends: place i of
  n has the local index i for i <= size / 2, size - (n - i) for n - i <
  size / 2, and size / 2 between.

  Args:
    length: places of the axis, n.
    size: of the window.

  Raises:
    ValueError: the axis is shorter than the window.
  """
  if length < size:
    raise ValueError(
      f"{length} codes along an axis are fewer than the window's {size}: "
      "sample at least the trained size"
    )
  places = np.arange(length)
  return np.clip(places - size // 2, 0, length - size)


def sample(
  model,
  params,
  keys,
  grid,
  window,
  settings,
  *,
  condition=None,
  label=None,
  given=None,
  guided=False,
):
  """Draw grids of codes of any size from the window's on.

  Args:
    model: as in `decode.sample`.
    params: as in `decode.sample`.
    keys: [b] keys; the code at place (i, j) of a sample is drawn with
      fold_in(key, i w + j).
    grid: h and w.
    window: rows and columns of the trained grid.
    settings: `decode.Settings`.
    condition: None; tokens int32 [b, m] that hold for every window; or a grid
      int32 [b, h, w] of which each window sees its own part, by rows.
    label: int32 [b], or None without classes.
    given: `decode.Given` with arrays [b, h, w], or None.
    guided: see `decode.sample`.

  Returns:
    int32 [b, h, w].

  Raises:
    ValueError: the grid is smaller than the window.
  """
  if tuple(grid) != tuple(window):
    slider = _Slider(
      model,
      params,
      keys,
      grid,
      window,
      settings,
      condition,
      label,
      given,
      guided,
    )
    return slider.sample()
  flat = functools.partial(rearrange, pattern="b h w -> b (h w)")
  if given is not None:
    given = jax.tree.map(flat, given)
  if condition is not None and condition.ndim == 3:
    condition = flat(condition)
  codes = decode.sample(
    model,
    params,
    keys,
    grid[0] * grid[1],
    settings,
    condition=condition,
    label=label,
    given=given,
    guided=guided,
  )
  return rearrange(codes, "b (h w) -> b h w", h=grid[0])


class _Slider:
  """The windows of one call of `sample`."""

  def __init__(
    self,
    model,
    params,
    keys,
    grid,
    window,
    settings,
    condition,
    label,
    given,
    guided,
  ):
    self.model, self.params = model, decode.halve(params, model.dtype)
    self.keys, self.settings = keys, settings
    self.grid, self.window = grid, window
    self.condition, self.label = condition, label
    self.given, self.guided = given, guided
    self.rows, self.cols = (starts(*axis) for axis in zip(grid, window))
    self.length = window[0] * window[1]

  def sample(self):
    """Draw int32 [b, h, w], row by row."""
    codes = jnp.zeros((self.keys.shape[0], *self.grid), jnp.int32)
    if self.given is not None:
      codes = jnp.where(self.given.keep, self.given.codes, 0)
      codes = codes.astype(jnp.int32)

    def draw_row(i, codes):
      for low, high, moves in _stretches(self.cols):
        draw = self._draw_moving if moves else self._draw_still
        codes = draw(i, low, high, codes)
      return codes

    return jax.lax.fori_loop(0, self.grid[0], draw_row, codes)

  def _draw_still(self, i, low, high, codes):
    """Draw columns low..high of row i, which share one window."""
    top, left = jnp.asarray(self.rows)[i], self.cols[low]
    reader, patch = self._look(top, left, codes)
    index = lambda j: (i - top) * self.window[1] + j - left

    def read_on(j, loop):
      codes, logits, cache = loop
      codes, code = self._choose(reader, i, j, codes, logits)
      logits, cache = reader.step(code, index(j), cache)
      return codes, logits, cache

    def prefill(size):
      logits, cache = reader.prefill(patch[:, :size], index(low))
      return logits, reader.grow(cache, self.length - 1)

    logits, cache = self._fit(prefill, index(low))
    loop = jax.lax.fori_loop(low, high - 1, read_on, (codes, logits, cache))
    return self._choose(reader, i, high - 1, *loop[:2])[0]

  def _draw_moving(self, i, low, high, codes):
    """Draw columns low..high of row i, each from a window of its own."""
    top = jnp.asarray(self.rows)[i]

    def draw(j, codes):
      left = jnp.asarray(self.cols)[j]
      reader, patch = self._look(top, left, codes)
      index = (i - top) * self.window[1] + j - left
      prefill = lambda size: reader.prefill(patch[:, :size], index)[0]
      logits = self._fit(prefill, index)
      return self._choose(reader, i, j, codes, logits)[0]

    return jax.lax.fori_loop(low, high, draw, codes)

  def _look(self, top, left, codes):
    """Return the model and the codes int32 [b, l] of one window."""

    def cut(x):
      sizes = (x.shape[0], *self.window)
      x = jax.lax.dynamic_slice(x, (0, top, left), sizes)
      return rearrange(x, "b h w -> b (h w)")

    condition = self.condition
    if condition is not None and condition.ndim == 3:
      condition = cut(condition)
    reader = decode.Reader(
      self.model, self.params, condition, self.label, self.guided
    )
    return reader, cut(codes)

  def _fit(self, prefill, known):
    """Run `prefill` on no more codes than it takes: half a window, or all.

    Between the upper and the lower edge exactly half a window is known.
    """
    rows, cols = self.window
    half, whole = rows // 2 * cols + cols // 2, self.length - 1
    if half >= whole:
      return prefill(whole)
    return jax.lax.cond(
      known <= half, lambda: prefill(half), lambda: prefill(whole)
    )

  def _choose(self, reader, i, j, codes, logits):
    """Draw the code at place (i, j) -> (codes, code [b])."""
    place = i * self.grid[1] + j
    keys = jax.vmap(jax.random.fold_in, (0, None))(self.keys, place)
    code = reader.draw(keys, logits, self.settings)
    if self.given is not None:
      code = jnp.where(
        self.given.keep[:, i, j], self.given.codes[:, i, j], code
      )
    code = code.astype(jnp.int32)
    return codes.at[:, i, j].set(code), code


def _stretches(cols):
  """Cut a row -> [(low, high, whether the window moves at each place)]."""
  runs, low = [], 0
  for _, group in itertools.groupby(cols):
    high = low + len(list(group))
    runs.append((low, high))
    low = high
  stretches = []
  for moves, group in itertools.groupby(runs, lambda run: run[1] - run[0] == 1):
    group = list(group)
    if moves:
      stretches.append((group[0][0], group[-1][1], True))
    else:
      stretches.extend((*run, False) for run in group)
  return stretches
