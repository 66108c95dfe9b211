"""Pictures larger than the trained grid: one window after another.

Each window is inpainted around what is known of it, half of it in general:
given, or drawn by the windows before it. So the model always sees the grid it
was trained on, and what it draws goes on from what is there.

Shapes: b samples, h w rows and columns of the canvas in codes, k windows.
"""

import jax
import jax.numpy as jnp
import numpy as np

from sundae import decode


def places(size, grid, start=None):
  """Return the top left corners of the windows, NumPy int32 [k, 2].

  They lie half a grid apart; the last ones end at the border.

  Args:
    size: (h, w) of the canvas.
    grid: of the model.
    start: top left corner of a window that is given; then the nearest to it
      come first. None goes row by row. Either way each window but the first
      overlaps what is given or comes before it.

  Raises:
    ValueError: the canvas is smaller than the grid.
  """
  if any(side < window for side, window in zip(size, grid)):
    raise ValueError(
      f"a canvas of {size[0]}x{size[1]} codes must be at least the model's grid"
      f" {grid[0]}x{grid[1]}"
    )
  axes = []
  for side, window in zip(size, grid):
    step = max(window // 2, 1)
    axes.append(sorted({*range(0, side - window, step), side - window}))
  corners = np.array(
    [(top, left) for top in axes[0] for left in axes[1]], np.int32
  )
  if start is None:
    return corners
  # In sides of the grid, both multiplied by its area: equal ones stay in turn.
  distance = (corners - np.array(start)) * np.array(grid[::-1])
  return corners[np.argsort((distance**2).sum(axis=1), kind="stable")]


def sample(
  model, params, keys, condition, settings, *, guided=False, start=None
):
  """Sample canvases; see `decode.sample`, which does each window.

  Args:
    model: `model.Hourglass`.
    params: its parameters.
    keys: [b] keys.
    condition: `decode.Condition` with codes and keep of the canvas [b, h, w].
    settings: `decode.Settings`.
    guided: see `decode.sample`.
    start: see `places`.

  Returns:
    (codes int32 [b, h, w], info) with `steps`, summed over windows, and
    `stopped`, true where every window finished by itself.
  """
  corners = places(condition.codes.shape[1:], model.grid, start)
  batch = len(keys)

  def body(carry, window):
    codes, keep, steps, stopped = carry
    number, corner = window
    cut = lambda x: jax.lax.dynamic_slice(x, (0, *corner), (batch, *model.grid))
    fold = lambda key: jax.random.fold_in(key, number)
    drawn, info = decode.sample(
      model,
      params,
      jax.vmap(fold)(keys),
      decode.Condition(condition.label, cut(codes), cut(keep)),
      settings,
      guided=guided,
    )
    paste = lambda x, new: jax.lax.dynamic_update_slice(x, new, (0, *corner))
    carry = (
      paste(codes, drawn),
      paste(keep, jnp.ones_like(drawn, bool)),
      steps + info["steps"],
      stopped & info["stopped"],
    )
    return carry, None

  carry = (
    condition.codes,
    condition.keep,
    jnp.zeros(batch, jnp.int32),
    jnp.ones(batch, bool),
  )
  numbers = np.arange(len(corners), dtype=np.uint32)
  (codes, _, steps, stopped), _ = jax.lax.scan(body, carry, (numbers, corners))
  return codes, {"steps": steps, "stopped": stopped}
