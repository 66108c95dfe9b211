"""Scene layouts as tokens: boxes or centre points of objects.

An object is a triple (object, top left, bottom right) or a pair (object,
centre); a place is one token, row times sections plus column. The layouts of
COCO and Open Images (Esser et al. 2021, sec. 4.2).

Shapes: b batch, m objects, l tokens, h w rows and columns in pixels.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from data import source

MAX_OBJECTS = 30
MIN_AREA = 1e-5  # of the authors on COCO
FLAGS = source.BOX_FLAGS


@dataclasses.dataclass(frozen=True)
class Layout:
  """How objects become tokens in 0..num_tokens - 1.

  Attributes:
    num_tokens: size of the vocabulary; its last token means none.
    num_classes: categories.
    points: centres instead of boxes.
    flags: which of FLAGS are told: "group" makes two tokens of a category,
      all four sixteen.
    crop: whether the picture's crop is told as one more box at the end; the
      objects' places are then those in the whole picture, else in the crop.
    most: objects that have room.
    least: objects below which nothing is learnt of a picture.
    min_area: share of the picture that an object must exceed to be there.
  """

  num_tokens: int
  num_classes: int
  points: bool = False
  flags: tuple[str, ...] = ()
  crop: bool = True
  most: int = MAX_OBJECTS
  least: int = 0
  min_area: float = MIN_AREA

  def __post_init__(self):
    if self.num_classes < 1 or self.most < 1:
      raise ValueError(
        f"condition.num_labels {self.num_classes} and condition.most "
        f"{self.most} must be at least 1"
      )
    if self.least > self.most:
      raise ValueError(
        f"condition.least {self.least} must be at most condition.most "
        f"{self.most}"
      )
    for name in self.flags:
      if name not in FLAGS:
        raise ValueError(
          f"condition.flags has {name!r}: choose from {', '.join(FLAGS)}"
        )
    needed = self.num_classes * (self.told + 1) + 1
    if needed > self.num_tokens:
      raise ValueError(
        f"{self.num_tokens} tokens cannot name {self.num_classes} classes"
        f"{' with flags' if self.flags else ''}: raise condition.vocabulary "
        f"to at least {needed}"
      )

  @property
  def told(self) -> int:
    """The bits of the flags that are told."""
    return sum(bit for name, bit in FLAGS.items() if name in self.flags)

  @property
  def sections(self) -> int:
    """Rows, and columns, that places are told in."""
    return math.isqrt(self.num_tokens)

  @property
  def none(self) -> int:
    """The token of an object that is not there."""
    return self.num_tokens - 1

  @property
  def each(self) -> int:
    """Tokens of an object."""
    return 2 if self.points else 3

  @property
  def length(self) -> int:
    """The tokens of a picture, l."""
    return self.most * self.each + 2 * self.crop


def tokens(
  layout: Layout,
  boxes: jax.Array,
  classes: jax.Array,
  crop: jax.Array,
  flags: jax.Array | None = None,
  key: jax.Array | None = None,
) -> jax.Array:
  """Return the tokens int32 [b, l] of the objects of pictures.

  Args:
    layout: how.
    boxes: float [b, m, 4], top, left, bottom, right in 0..1 of the crop.
    classes: int [b, m]; -1 where there is no object.
    crop: float [b, 4], the part of the whole picture that is seen.
    flags: int [b, m], sums of FLAGS; None has none.
    key: shuffles the objects, which also decides which ones have room; None
      keeps their order.
  """
  boxes = jnp.clip(boxes.astype(jnp.float32), 0.0, 1.0)
  crop = crop.astype(jnp.float32)
  share = crop[:, 2:] - crop[:, :2]  # [b, 2]
  area = (boxes[..., 2:] - boxes[..., :2]).prod(-1) * share.prod(-1)[:, None]
  seen = (classes >= 0) & (area > layout.min_area)  # [b, m]
  if layout.crop:
    start, size = (jnp.tile(x, 2)[:, None] for x in (crop[:, :2], share))
    boxes = start + boxes * size
  if layout.flags and flags is not None:
    classes = classes + layout.num_classes * (flags & layout.told)
  if layout.points:
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    places = [_place(layout, middle)]
  else:
    places = [_place(layout, boxes[..., :2]), _place(layout, boxes[..., 2:])]
  rows = jnp.stack([classes.astype(jnp.int32), *places], -1)  # [b, m, each]
  rows = jnp.where(seen[..., None], rows, layout.none)
  rank = jnp.zeros(seen.shape)
  if key is not None:
    rank = jax.random.uniform(key, seen.shape)
  rank = jnp.argsort(jnp.where(seen, rank, 2.0), axis=1)  # stable
  rows = jnp.take_along_axis(rows, rank[..., None], axis=1)[:, : layout.most]
  missing = layout.most - rows.shape[1]
  rows = jnp.pad(
    rows, ((0, 0), (0, missing), (0, 0)), constant_values=layout.none
  )
  out = rows.reshape(len(rows), -1)
  if layout.crop:
    corners = [_place(layout, crop[:, :2]), _place(layout, crop[:, 2:])]
    out = jnp.concatenate([out, jnp.stack(corners, -1)], axis=1)
  return out  # [b, l]


def enough(layout: Layout, found: jax.Array) -> jax.Array:
  """Say of which tokens [b, l] there are `layout.least` objects: bool [b]."""
  first = found[:, : layout.most * layout.each : layout.each]
  return (first != layout.none).sum(axis=1) >= layout.least


def boxes_of(
  layout: Layout, found: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Return what tokens [b, l] say, to the nearest section.

  Returns:
    (boxes float32 [b, m, 4] of the crop, classes int32 [b, m], -1 where there
    is no object, crop float32 [b, 4]). A centre point comes back as a box
    without a size.
  """
  rows = found[:, : layout.most * layout.each]
  rows = rows.reshape(len(found), layout.most, layout.each)
  corners = [_unplaced(layout, rows[..., i]) for i in (1, layout.each - 1)]
  boxes = jnp.concatenate(corners, axis=-1)  # [b, m, 4]
  crop = jnp.tile(jnp.asarray([0.0, 0.0, 1.0, 1.0]), (len(found), 1))
  if layout.crop:
    ends = [_unplaced(layout, found[:, i]) for i in (-2, -1)]
    crop = jnp.concatenate(ends, axis=-1)
    start = jnp.tile(crop[:, :2], 2)[:, None]
    size = jnp.tile(crop[:, 2:] - crop[:, :2], 2)[:, None]
    boxes = (boxes - start) / jnp.maximum(size, 1e-6)
  there = rows[..., 0] != layout.none
  classes = jnp.where(there, rows[..., 0] % layout.num_classes, -1)
  return boxes, classes, crop


def draw(layout: Layout, found: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Return the outlines of boxes, or crosses, as uint8 [b, h, w, 3].

  Args:
    layout: how.
    found: tokens [b, l].
    size: h and w.
  """
  boxes, classes, _ = boxes_of(layout, found)
  if layout.points:
    boxes += jnp.asarray([-0.02, -0.02, 0.02, 0.02])
  y = (jnp.arange(size[0])[:, None] + 0.5) / size[0]
  x = (jnp.arange(size[1]) + 0.5) / size[1]
  edge = 1.0 / jnp.asarray(size, jnp.float32)

  def add(canvas, drawn):
    box, label = drawn  # of one object of all pictures
    top, left, bottom, right = (box[:, i, None, None] for i in range(4))
    within = lambda dy, dx: (
      (y >= top + dy)
      & (y <= bottom - dy)
      & (x >= left + dx)
      & (x <= right - dx)
    )
    line = within(0.0, 0.0) & ~within(edge[0], edge[1])
    line &= label[:, None, None] >= 0
    colour = colours[label][:, None, None]
    return jnp.where(line[..., None], colour, canvas), None

  shades = np.random.RandomState(0).randint(64, 256, (layout.num_classes, 3))
  colours = jnp.asarray(shades, jnp.uint8)
  canvas = jnp.zeros((len(found), *size, 3), jnp.uint8)
  objects = (boxes.swapaxes(0, 1), classes.swapaxes(0, 1))
  return jax.lax.scan(add, canvas, objects)[0]


def _place(layout, yx):
  """Return the token of places [..., 2] in 0..1: row and column."""
  steps = layout.sections - 1
  cells = jnp.round(jnp.clip(yx, 0.0, 1.0) * steps).astype(jnp.int32)
  return cells[..., 0] * layout.sections + cells[..., 1]


def _unplaced(layout, places):
  """Return the places [..., 2] in 0..1 of tokens."""
  cells = jnp.stack([places // layout.sections, places % layout.sections], -1)
  return cells.astype(jnp.float32) / (layout.sections - 1)
