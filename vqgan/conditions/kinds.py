"""The kinds of condition of a prior: from a batch to tokens, and pictures.

Each is a frozen dataclass with the members of `Condition`. Maps are in
`vqgan.conditions.maps`.

Shapes: b batch, m tokens, H W rows and columns in pixels, h w of the grid of
tokens, c channels, l codes.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat

from vqgan import frame, orders
from vqgan.conditions import coordinates, maps, objects

Batch = Mapping[str, jax.Array]


class Condition(Protocol):
  """What a prior is given beside a label.

  Attributes:
    fields: the arrays of a batch that it reads (`tokens`).
    vocabulary: of its tokens; 0 where there are none.
    length: m.
    places: h and w where the tokens are a grid over the image, else None.
  """

  @property
  def fields(self) -> tuple[str, ...]: ...

  @property
  def vocabulary(self) -> int: ...

  @property
  def length(self) -> int: ...

  @property
  def places(self) -> tuple[int, int] | None: ...

  def spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Describe `fields`."""
    ...

  def tokens(
    self,
    params: Any,
    batch: Batch,
    codes: jax.Array,
    key: jax.Array | None = None,
  ) -> jax.Array | None:
    """Return int32 [b, m], or None without tokens.

    Args:
      params: of the first stage that reads maps, else anything.
      batch: holds `fields`; or, instead of the image, `edges` bool [b, H, W],
        and `known` bool [b, h, w] of a picture to complete.
      codes: int32 [b, h, w] of the pictures.
      key: for what is drawn anew in training; None decides it.
    """
    ...

  def pictures(self, params: Any, tokens: jax.Array) -> jax.Array | None:
    """Show tokens [b, m] as uint8 [b, H, W, 3]; None where nothing can be."""
    ...


@dataclasses.dataclass(frozen=True)
class Nothing:
  """No condition but perhaps a class."""

  fields = ()
  vocabulary = 0
  length = 0
  places = None

  def spec(self, batch_size):
    del batch_size
    return {}

  def tokens(self, params, batch, codes, key=None):
    del params, batch, codes, key

  def pictures(self, params, tokens):
    del params, tokens


@dataclasses.dataclass(frozen=True)
class Places:
  """Where in the whole picture each code lies: for crops and windows.

  Attributes:
    grid: h and w of the codes.
    factor: pixels per code along one axis.
    levels: coordinates are 0..levels.
  """

  grid: tuple[int, int]
  factor: int
  levels: int

  fields = ("crop",)

  def __post_init__(self):
    if self.levels < 1:
      raise ValueError(f"condition.levels {self.levels} must be at least 1")

  @property
  def vocabulary(self):
    return self.levels + 1

  @property
  def length(self):
    return math.prod(self.grid)

  @property
  def places(self):
    return self.grid

  def spec(self, batch_size):
    return {"crop": jax.ShapeDtypeStruct((batch_size, 4), jnp.float32)}

  def tokens(self, params, batch, codes, key=None):
    del params, codes, key
    found = coordinates.tokens(
      batch["crop"], self.grid, self.factor, self.levels
    )
    return rearrange(found, "b h w -> b (h w)")

  def pictures(self, params, tokens):
    del params
    grey = rearrange(tokens, "b (h w) -> b h w", h=self.grid[0]) / self.levels
    size = tuple(side * self.factor for side in self.grid)
    return maps.enlarged(repeat(grey, "b h w -> b h w c", c=3), size)


@dataclasses.dataclass(frozen=True)
class Scene:
  """Boxes or centre points of objects, in a new order at every step.

  Attributes:
    layout: how they become tokens.
    size: H and W of its pictures.
  """

  layout: objects.Layout
  size: tuple[int, int]

  @property
  def fields(self):
    flags = ("box_flags",) * bool(self.layout.flags)
    return ("boxes", "box_labels", "crop", *flags)

  @property
  def vocabulary(self):
    return self.layout.num_tokens

  @property
  def length(self):
    return self.layout.length

  places = None

  def spec(self, batch_size):
    row = (batch_size, frame.MAX_BOXES)
    spec = {
      "boxes": jax.ShapeDtypeStruct((*row, 4), jnp.float32),
      "box_labels": jax.ShapeDtypeStruct(row, jnp.int32),
      "crop": jax.ShapeDtypeStruct((batch_size, 4), jnp.float32),
    }
    if self.layout.flags:
      spec["box_flags"] = jax.ShapeDtypeStruct(row, jnp.int32)
    return spec

  def tokens(self, params, batch, codes, key=None):
    del params, codes
    return objects.tokens(
      self.layout,
      batch["boxes"],
      batch["box_labels"],
      batch["crop"],
      batch.get("box_flags"),
      key,
    )

  def pictures(self, params, tokens):
    del params
    return objects.draw(self.layout, tokens, self.size)


@dataclasses.dataclass(frozen=True)
class Known:
  """Part of the image's own codes: a model that completes pictures.

  In training a side and a share of the picture are drawn, else the upper
  half is given.

  Attributes:
    grid: h and w of the codes.
    num_codes: the token that means "not given".
  """

  grid: tuple[int, int]
  num_codes: int

  fields = ()

  @property
  def vocabulary(self):
    return self.num_codes + 1

  @property
  def length(self):
    return math.prod(self.grid)

  @property
  def places(self):
    return self.grid

  def spec(self, batch_size):
    del batch_size
    return {}

  def tokens(self, params, batch, codes, key=None):
    del params
    if "known" in batch:  # bool [b, h, w]
      known = batch["known"]
    elif key is None:
      known = jnp.arange(self.grid[0])[:, None] < self.grid[0] // 2
    else:
      known = self._drawn(key, len(codes))
    found = jnp.where(known, codes, self.num_codes)
    return rearrange(found, "b h w -> b (h w)")

  def pictures(self, params, tokens):
    del params, tokens

  def _drawn(self, key, count):
    keys = jax.random.split(key)
    share = jax.random.uniform(keys[0], (count, 1, 1), minval=0.1, maxval=0.9)
    side = jax.random.randint(keys[1], (count, 1, 1), 0, 4)
    y = (jnp.arange(self.grid[0])[:, None] + 0.5) / self.grid[0]
    x = (jnp.arange(self.grid[1]) + 0.5) / self.grid[1]
    return jnp.select(
      [side == 0, side == 1, side == 2],
      [y < share, y > 1 - share, x < share],
      x > 1 - share,
    )


def learnt(condition: Condition, tokens: jax.Array | None) -> jax.Array | None:
  """Return which pictures [b] are learnt from, bool; None for all of them."""
  if not isinstance(condition, Scene) or not condition.layout.least:
    return None
  return objects.enough(condition.layout, tokens)


def beside(
  condition: Condition, grid: tuple[int, int], order: str
) -> tuple[int, ...]:
  """Return which token lies at, or nearest to, each code: l of 0..m-1.

  Args:
    condition: whose tokens are a grid.
    grid: h and w of the codes.
    order: of the codes, see `orders`.

  Raises:
    ValueError: the tokens are no grid.
  """
  if condition.places is None:
    raise ValueError(
      "condition.enters can only be prefix: the tokens of this condition are "
      "no grid over the picture"
    )
  rows, cols = (
    (2 * np.arange(codes) + 1) * tokens // (2 * codes)
    for codes, tokens in zip(grid, condition.places)
  )
  nearest = rows[:, None] * condition.places[1] + cols  # [h, w]
  return tuple(nearest.reshape(-1)[orders.order(order, *grid)].tolist())
