"""Maps and pictures over an image as a condition's grid of tokens.

Read either by a pool (`vqgan.conditions.pool`), which needs nothing, or, as in
the paper, by a first stage of their own. A `kinds.Condition`.

Shapes: b batch, H W rows and columns in pixels, h w of the grid of tokens, c
channels.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from vqgan import frame
from vqgan import tokenizer as tokenizer_lib
from vqgan.conditions import edges, figure, pool

MAPS = ("segmentation", "depth", "edges", "lowres", "keypoints", "codes")


@dataclasses.dataclass(frozen=True)
class Map:
  """A map or picture over the image, as a grid of tokens.

  Attributes:
    kind: of MAPS. "lowres" is the image itself, small, "codes" the image as
      another first stage sees it, "keypoints" a stick figure.
    size: H and W of a batch's arrays.
    grid: h and w of the tokens.
    num_labels: classes of a segmentation.
    label_shift: added to its labels, modulo 256.
    levels: of each channel, where pooled.
    skeleton: of key points; "cross" draws boxes instead.
    stage: a first stage that reads the map, or None for the pool.
    shrink: pixels of a low-resolution image's pixel, where a stage reads it.
  """

  kind: str
  size: tuple[int, int]
  grid: tuple[int, int]
  num_labels: int = 0
  label_shift: int = 0
  levels: int = 0
  skeleton: str = "cross"
  stage: tokenizer_lib.Tokenizer | None = None
  shrink: int = 8

  def __post_init__(self):
    if self.kind not in MAPS:
      raise ValueError(
        f"condition {self.kind!r} must be one of {', '.join(MAPS)}"
      )
    if self.kind == "codes" and self.stage is None:
      raise ValueError("condition.kind=codes needs condition.stage.weights")
    if self.stage is None:
      fine = 2 if self.kind == "edges" else 1
      pool.check(self.size, tuple(fine * side for side in self.grid))
      if self.vocabulary < 2:
        field = "num_labels" if self.kind == "segmentation" else "levels"
        raise ValueError(
          f"condition.{field} {getattr(self, field)} must be at least 2 for "
          f"{self.kind}"
        )
      return
    if self.kind == "lowres" and not 1 <= self.shrink <= min(self.size):
      raise ValueError(
        f"condition.shrink {self.shrink} must be in 1..{min(self.size)}"
      )
    self._check_stage()

  @property
  def fields(self):
    if self.kind in ("segmentation", "depth"):
      return (self.kind,)
    if self.kind == "keypoints":
      if self.skeleton == "cross":
        return ("boxes", "box_labels")
      return ("keypoints",)
    return ("image",)

  @property
  def classes(self):
    """Which labels, before they are shifted, its maps may hold."""
    if self.kind != "segmentation":
      return frame.ANY
    staged = self.stage is not None
    return frame.Classes(
      self.num_labels, self.label_shift, "condition", stage=staged
    )

  @property
  def vocabulary(self):
    if self.stage is not None:
      return self.stage.num_codes
    if self.kind == "segmentation":
      return self.num_labels
    return 16 if self.kind == "edges" else self.levels**self._channels

  @property
  def length(self):
    return math.prod(self.grid)

  @property
  def places(self):
    return self.grid

  def spec(self, batch_size):
    size = self.size
    points = figure.num_points(self.skeleton) if self.skeleton else 0
    shapes = {
      "segmentation": (size, jnp.uint8),
      "depth": (size, jnp.uint16),
      "image": ((*size, 3), jnp.uint8),
      "keypoints": ((frame.MAX_FIGURES, points, 3), jnp.float32),
      "boxes": ((frame.MAX_BOXES, 4), jnp.float32),
      "box_labels": ((frame.MAX_BOXES,), jnp.int32),
    }
    return {
      name: jax.ShapeDtypeStruct(
        (batch_size, *shapes[name][0]), shapes[name][1]
      )
      for name in self.fields
    }

  def tokens(self, params, batch, codes, key=None):
    del codes, key
    if self.stage is not None:
      rows = self._rows(self._values(batch))
      found = jax.lax.stop_gradient(self.stage.encode(params, rows))
    elif self.kind == "segmentation":
      found = pool.labels(self._values(batch), self.grid, self.num_labels)
    elif self.kind == "edges":
      found = pool.quarters(self._values(batch)[..., 0] > 0.5, self.grid)
    else:
      of = "max" if self.kind == "keypoints" else "mean"
      found = pool.levels(self._values(batch), self.grid, self.levels, of)
    return rearrange(found, "b h w -> b (h w)")

  def pictures(self, params, tokens):
    tokens = rearrange(tokens, "b (h w) -> b h w", h=self.grid[0])
    if self.stage is not None:
      return self.stage.decode(params, tokens)
    if self.kind == "segmentation":
      palette = np.random.RandomState(0).rand(self.num_labels, 3)
      return enlarged(jnp.asarray(palette)[tokens], self.size)
    if self.kind == "edges":
      shades = pool.held(tokens)[..., None].astype(jnp.float32)
    else:
      shades = pool.colours(tokens, self.levels, self._channels)
    return enlarged(jnp.broadcast_to(shades, (*shades.shape[:3], 3)), self.size)

  def _check_stage(self):
    """Refuse a first stage of something else, or of other classes."""
    reads = "label maps" if self.stage.input == "segmentation" else "depth"
    if tokenizer_lib.reads_pictures(self.stage):
      reads = "pictures"
    takes = {"segmentation": ("label maps",), "depth": ("depth", "pictures")}
    wanted = takes.get(self.kind, ("pictures",))
    if reads not in wanted:
      raise ValueError(
        f"condition.kind={self.kind} needs a first stage of "
        f"{' or '.join(wanted)}, and that of condition.stage reads {reads}"
      )
    if self.kind != "segmentation" or not isinstance(
      self.stage, tokenizer_lib.VQGAN
    ):
      return
    count = self.stage.task.model.shape.in_channels
    if self.num_labels != count:
      raise ValueError(
        f"condition.num_labels {self.num_labels} must be {count}, the classes "
        "of its first stage"
      )

  @property
  def _channels(self):
    return 1 if self.kind == "depth" else 3

  def _values(self, batch):
    """Return labels int32 [b, H, W], or shades float32 [b, H, W, c] in 0..1."""
    if self.kind == "segmentation":
      labels = batch["segmentation"].astype(jnp.int32)
      return (labels + self.label_shift) % 256
    if self.kind == "depth":
      depth = batch["depth"].astype(jnp.float32)
      least = depth.min((1, 2), keepdims=True)
      most = depth.max((1, 2), keepdims=True)
      return ((depth - least) / jnp.maximum(most - least, 1.0))[..., None]
    if self.kind == "keypoints":
      if self.skeleton == "cross":
        boxes = batch["boxes"]
        points = figure.cross(boxes, batch["box_labels"] >= 0)
      else:
        points = batch["keypoints"]
      return figure.draw(points, self.skeleton, self.size)
    if self.kind == "edges":
      found = (
        batch["edges"] if "edges" in batch else edges.canny(batch["image"])
      )
      return found[..., None].astype(jnp.float32)
    image = batch["image"]
    return image.astype(jnp.float32) / 255.0

  def _rows(self, values):
    """Turn values into what the stage reads."""
    if self.kind == "segmentation":
      return values.astype(jnp.uint8)
    if self.kind == "lowres":
      small = tuple(side // self.shrink for side in self.size)
      shape = lambda size: (len(values), *size, values.shape[-1])
      values = jax.image.resize(values, shape(small), "cubic")
      values = jax.image.resize(values, shape(self.size), "cubic")
    wanted = self.stage.spec(1)
    channels, dtype = wanted.shape[-1], wanted.dtype
    if values.shape[-1] != channels:
      values = jnp.broadcast_to(
        values.mean(-1, keepdims=True), (*values.shape[:3], channels)
      )
    most = jnp.iinfo(dtype).max
    return jnp.round(jnp.clip(values, 0.0, 1.0) * most).astype(dtype)


def enlarged(shades, size):
  """Return shades [b, h, w, 3] in 0..1 as pictures uint8 [b, H, W, 3]."""
  shape = (len(shades), *size, 3)
  shades = jax.image.resize(shades, shape, "nearest")
  return jnp.round(255 * shades).astype(jnp.uint8)
