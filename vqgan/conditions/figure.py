"""Key points drawn as stick figures, on the device.

The pose condition: a list of points in, of any detector, and a picture out
that a first stage of its own, or a pool, turns into tokens (Esser et al.
2021, sec. 4.2, DeepFashion).

Shapes: b batch, n figures, m points of a figure, h w rows and columns in
pixels.
"""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np

# Pairs of points that are joined, by the number and order of the points.
SKELETONS = {
  # OpenPose's body: nose, neck, right arm, left arm, right leg, left leg,
  # eyes, ears.
  "openpose18": (
    (1, 2), (2, 3), (3, 4), (1, 5), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10),
    (1, 11), (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
  ),
  # COCO's body: nose, eyes, ears, shoulders, elbows, wrists, hips, knees,
  # ankles, left before right.
  "coco17": (
    (0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10),
    (5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16),
  ),
  # An object's box: the middles of its top, bottom, left and right.
  "cross": ((0, 1), (2, 3)),
}  # fmt: skip
_NUM_POINTS = {"openpose18": 18, "coco17": 17, "cross": 4}


def num_points(skeleton: str) -> int:
  """Return the points of a skeleton; raises ValueError for unknown ones."""
  if skeleton not in SKELETONS:
    raise ValueError(
      f"condition.skeleton {skeleton!r} must be one of {', '.join(SKELETONS)}"
    )
  return _NUM_POINTS[skeleton]


def cross(boxes: jax.Array, seen: jax.Array) -> jax.Array:
  """Return the points [b, n, 4, 3] of boxes [b, n, 4]: see SKELETONS.

  For pictures whose objects have boxes and no key points. `seen` [b, n] says
  which boxes there are.
  """
  top, left, bottom, right = (boxes[..., i] for i in range(4))
  y, x = (top + bottom) / 2, (left + right) / 2
  seen = seen.astype(boxes.dtype)
  points = [(top, x), (bottom, x), (y, left), (y, right)]
  return jnp.stack([jnp.stack([*p, seen], -1) for p in points], axis=-2)


def draw(points: jax.Array, skeleton: str, size: tuple[int, int]) -> jax.Array:
  """Return the figures on black, float32 [b, h, w, 3] in 0..1.

  Args:
    points: float [b, n, m, 3], row and column in 0..1 of the picture, and
      whether the point was found (above 0).
    skeleton: a name of SKELETONS.
    size: h and w in pixels.

  Raises:
    ValueError: an unknown skeleton, or another number of points.
  """
  expected = num_points(skeleton)
  if points.ndim != 4 or points.shape[2:] != (expected, 3):
    raise ValueError(
      f"key points {points.shape[1:]} must be [figures, {expected}, 3] for the "
      f"skeleton {skeleton}: row, column and whether it was found"
    )
  height, width = size
  thick = max(1.0, min(size) / 48) / 2
  pixels = jnp.stack(
    jnp.meshgrid(
      jnp.arange(height) + 0.5, jnp.arange(width) + 0.5, indexing="ij"
    ),
    axis=-1,
  )  # [h, w, 2]
  places = points[..., :2] * jnp.asarray(size, jnp.float32)
  bones = np.asarray(SKELETONS[skeleton])

  def bone(canvas, drawn):
    ends, colour = drawn  # one bone of all figures
    start, end = places[:, :, ends[0]], places[:, :, ends[1]]  # [b, n, 2]
    seen = (points[:, :, ends[0], 2] > 0) & (points[:, :, ends[1], 2] > 0)
    distance = _distance(pixels, start, end)  # [b, n, h, w]
    on = jnp.any((distance <= thick) & seen[:, :, None, None], axis=1)
    return jnp.where(on[..., None], colour, canvas), None

  colours = jnp.asarray(
    [colorsys.hsv_to_rgb(i / len(bones), 1.0, 1.0) for i in range(len(bones))]
  )
  canvas = jnp.zeros((len(points), height, width, 3), jnp.float32)
  return jax.lax.scan(bone, canvas, (jnp.asarray(bones), colours))[0]


def _distance(pixels, start, end):
  """Return the distance [b, n, h, w] of pixels [h, w, 2] from segments."""
  along = (end - start)[:, :, None, None]  # [b, n, 1, 1, 2]
  offset = pixels - start[:, :, None, None]
  length = jnp.maximum(jnp.sum(along**2, -1), 1e-6)
  where = jnp.clip(jnp.sum(offset * along, -1) / length, 0.0, 1.0)
  return jnp.sqrt(jnp.sum((offset - where[..., None] * along) ** 2, -1))
