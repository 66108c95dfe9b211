"""The network: a two-dimensional hourglass transformer over a grid of codes.

Layers on the fine grid, a linear map of patches to places of a coarse grid,
layers there (or another hourglass), a linear map back, a skip connection, and
layers again (McKinney & Willcocks 2022, sec. 3; Nawrot et al. 2021). Between
the grids one attention layer each way may refine what the linear maps did.

Shapes: b batch, h w rows and columns of codes, l places of a level, s of the
level attended to, d width, n heads, k width of a head, v codes, i j rows and
columns of a patch.
"""

import itertools

import flax.linen as nn
import numpy as np
from einops import rearrange

from layers import logits as logits_lib
from layers import transformer
from sundae import levels

RESAMPLING = ("none", "patch", "global")
_INIT = nn.initializers.normal(0.02)


class Hourglass(nn.Module):
  """Predict every code from all codes, some of which are wrong.

  Attributes:
    grid: (h, w) of the codes.
    num_codes: v.
    num_classes: classes of the label; 0 has none. Label num_classes is the
      null class, for guidance.
    shape: of the layers; `head_width` is k.
    layers: an odd number of counts, from the fine grid to the coarsest and
      back: (2, 10, 2), or (2, 2, 6, 2, 2) with two factors.
    factors: (rows, cols) of a patch, one for each way down.
    resampling: attention between levels: "none"; "patch", a patch to its own
      places, and a place to the patches around it; "global", to all.
    places: where codes lie to attention, one of `levels.PLACES`.
    reference: do as the released code does: positions for the first head
      alone, of places from corner to corner, resampling by strips of the raster
      order, fixed frequencies.

  Raises:
    ValueError: fields that fit no network.
  """

  grid: tuple[int, int]
  num_codes: int
  shape: transformer.Shape
  num_classes: int = 0
  layers: tuple[int, ...] = (2, 10, 2)
  factors: tuple[tuple[int, int], ...] = ((2, 2),)
  resampling: str = "patch"
  places: str = "middles"
  reference: bool = False

  def __post_init__(self):
    if len(self.layers) != 2 * len(self.factors) + 1:
      raise ValueError(
        f"{len(self.layers)} counts of layers {self.layers} do not fit "
        f"{len(self.factors)} factors {self.factors}: give two counts a factor,"
        " and one"
      )
    if min(self.layers) < 0:
      raise ValueError(f"counts of layers {self.layers} must be at least 0")
    if self.resampling not in RESAMPLING:
      raise ValueError(
        f'resampling "{self.resampling}": choose one of {", ".join(RESAMPLING)}'
      )
    if self.places not in levels.PLACES:
      raise ValueError(
        f'places "{self.places}": choose one of {", ".join(levels.PLACES)}'
      )
    if self.reference and self.resampling == "global":
      raise ValueError(
        'reference has no resampling "global": choose "patch" or "none"'
      )
    levels.grids(self.grid, self.factors)
    levels.angles(self.grid, _head_width(self.shape))
    super().__post_init__()

  def setup(self):
    embed = lambda size: nn.Embed(
      size, self.shape.width, dtype=self.shape.dtype, embedding_init=_INIT
    )
    self.code_table = embed(self.num_codes)
    if self.num_classes:
      self.class_table = embed(self.num_classes + 1)
    self.body = _Level(
      self.shape,
      self.grid,
      self.layers,
      self.factors,
      self.resampling,
      self.places,
      self.reference,
    )
    self.norm = nn.LayerNorm(self.shape.epsilon, dtype=self.shape.dtype)
    self.head = logits_lib.Head(self.num_codes, dtype=self.shape.dtype)

  def __call__(self, codes, label=None):
    """Return logits float32 [b, h, w, v].

    Args:
      codes: int32 [b, h, w], each in 0..v-1.
      label: int32 [b]; ignored by a model without classes.

    Raises:
      ValueError: the codes have another grid, or no label was given to a model
        with classes.
    """
    if codes.shape[1:] != tuple(self.grid):
      raise ValueError(
        f"codes {codes.shape[1]}x{codes.shape[2]} must have the model's grid "
        f"{self.grid[0]}x{self.grid[1]}: sample in windows beyond it"
      )
    x = self.code_table(rearrange(codes, "b h w -> b (h w)"))  # [b, l, d]
    if self.num_classes:
      if label is None:
        raise ValueError(
          f"the model has {self.num_classes} classes: give a label, or "
          f"{self.num_classes} for none"
        )
      x += self.class_table(label)[:, None]
    logits = self.head(self.norm(self.body(x)))  # [b, l, v]
    return rearrange(logits, "b (h w) v -> b h w v", h=self.grid[0])


class _Level(nn.Module):
  """Layers on one grid around a coarser level; the coarsest has only layers."""

  shape: transformer.Shape
  grid: tuple[int, int]
  layers: tuple[int, ...]
  factors: tuple[tuple[int, int], ...]
  resampling: str
  places: str
  reference: bool

  def setup(self):
    stack = lambda count: transformer.Stack(self.shape, (1,) * count)
    self.before = stack(self.layers[0])
    if not self.factors:
      return
    self.after = stack(self.layers[-1])
    factor = self.factors[0]
    size = int(np.prod(factor))
    dense = lambda width: nn.Dense(
      width, dtype=self.shape.dtype, kernel_init=_INIT
    )
    self.down = dense(self.shape.width)
    self.up = dense(self.shape.width * size)
    if self.resampling != "none":
      self.refine_down = _Refine(self.shape)
      self.refine_up = _Refine(self.shape)
    self.coarse = _Level(
      self.shape,
      levels.grids(self.grid, [factor])[1],
      self.layers[1:-1],
      self.factors[1:],
      self.resampling,
      self.places,
      self.reference,
    )

  def __call__(self, x):
    """Return [b, l, d] for x [b, l, d], rows of the grid one after another."""
    angles = self._angles()
    x, _ = self.before(x, angles=angles)
    if not self.factors:
      return x
    masks, turns = self._between()
    y = self._to_coarse(x)
    if self.resampling != "none":
      y = self.refine_down(y, x, masks[0], turns[1], turns[0])
    coarse = self.coarse(y)
    x += self._to_fine(coarse)
    if self.resampling != "none":
      x = self.refine_up(x, coarse, masks[1], turns[0], turns[1])
    x, _ = self.after(x, angles=angles)
    return x

  def _to_coarse(self, x):
    (i, j), (h, w) = self.factors[0], self.coarse.grid
    pattern = "b (h i w j) d -> b (h w) (d i j)"
    return self.down(rearrange(x, pattern, h=h, i=i, w=w, j=j))

  def _to_fine(self, x):
    (i, j), (h, w) = self.factors[0], self.coarse.grid
    pattern = "b (h w) (d i j) -> b (h i w j) d"
    return rearrange(self.up(x), pattern, h=h, i=i, w=w, j=j)

  def _angles(self):
    width = _head_width(self.shape)
    if not self.reference:
      return levels.angles(self.grid, width, self.places)
    return levels.reference_angles(
      self.grid, width, self.shape.num_heads, innermost=not self.factors
    )

  def _between(self):
    """Return masks (down [s, l], up [l, s]) and angles (fine, coarse)."""
    factor = self.factors[0]
    if self.reference:
      strips = levels.strips(self.grid, factor)
      return (strips, strips.T), (None, None)
    width = _head_width(self.shape)
    turns = (
      levels.angles(self.grid, width, self.places),
      levels.patch_angles(self.grid, factor, width, self.places),
    )
    if self.resampling == "global":
      return (None, None), turns
    down = levels.inside(self.grid, factor)
    return (down, levels.around(self.grid, factor)), turns


class _Refine(nn.Module):
  """One layer whose queries attend to another level."""

  shape: transformer.Shape

  def setup(self):
    self.attend = transformer.Branch(
      self.shape, transformer.make_attention(self.shape)
    )
    self.feed = transformer.Branch(
      self.shape, transformer.FeedForward(self.shape)
    )

  def __call__(self, x, other, mask, angles, other_angles):
    """Return x [b, l, d] after attending to other [b, s, d].

    Args:
      x: [b, l, d].
      other: [b, s, d], read as it is.
      mask: None, or bool [l, s].
      angles: None, or the rotary angles of x.
      other_angles: those of the other level, in the same coordinates.
    """
    memory = self.attend.layer.keys_values(other, other_angles)
    mask = None if mask is None else mask[None, None]
    x, _ = self.attend(x, memory=memory, mask=mask, angles=angles, train=False)
    return self.feed(x, train=False)[0]


def flops(model, batch_size):
  """Return the FLOPs of one forward pass, analytically.

  A multiply-add counts as two; what masks hide is counted too.

  Args:
    model: `Hourglass`.
    batch_size: grids of codes.
  """
  shape, sizes = model.shape, levels.grids(model.grid, model.factors)
  d = shape.width
  inner = shape.num_heads * _head_width(shape)
  places = [h * w for h, w in sizes]

  def layer(l, s):
    dense = l * (2 * d * inner + 8 * d * d) + s * 2 * d * inner
    return 2 * dense + 4 * l * s * inner

  total = 2 * places[0] * d * model.num_codes
  for depth, l in enumerate(places):
    num = model.layers[depth]
    if depth < len(model.factors):  # the way back
      num += model.layers[-1 - depth]
    total += num * layer(l, l)
  for fine, coarse in itertools.pairwise(places):
    total += 2 * 2 * fine * d * d  # patches down and up
    if model.resampling != "none":
      total += layer(coarse, fine) + layer(fine, coarse)
  return float(batch_size * total)


def _head_width(shape):
  return shape.head_width or shape.width // shape.num_heads
