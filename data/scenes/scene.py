"""What stands where: a scene as plain numbers, drawn from (seed, index).

World axes: x to the right, y away from the camera, z up; the ground is z = 0.
One main object, larger in the picture than all others together and of a colour
that no other object has, makes the label; up to two small ones stand around.
"""

import dataclasses
import functools
import math

import numpy as np

SHAPES = ("sphere", "cube", "cylinder", "cone")
COLOURS = ("red", "yellow", "green", "cyan", "blue", "purple")
# Class = colour * len(SHAPES) + shape.
CLASS_NAMES = tuple(f"{c} {s}" for c in COLOURS for s in SHAPES)

# The camera: where it stands, what it looks at, and half the picture's width
# at distance one.
CAMERA = np.array([0.0, -8.0, 5.6])
TARGET = np.array([0.0, -0.1, 0.45])
HALF_WIDTH = 0.325

_MAIN_SIZE = (0.85, 1.15)
_SMALL_SIZE = (0.34, 0.52)
# Chances of no, one and two small objects.
_NUM_SMALL = (0.45, 0.40, 0.15)


@dataclasses.dataclass(frozen=True)
class Solid:
  """One object standing on the ground.

  Attributes:
    shape: index into SHAPES.
    colour: index into COLOURS.
    x, y: where its axis meets the ground.
    radius: of the sphere, of the base, or of the circle inside the square.
    height: in the same unit.
    angle: of a cube about its axis, radians.
    gloss: strength of the highlight, 0..1.
  """

  shape: int
  colour: int
  x: float
  y: float
  radius: float
  height: float
  angle: float
  gloss: float

  @property
  def label(self) -> int:
    return self.colour * len(SHAPES) + self.shape

  @property
  def centre(self) -> np.ndarray:
    return np.array([self.x, self.y, self.height / 2])

  @property
  def reach(self) -> float:
    """Radius of a sphere about the centre that holds the object."""
    if self.shape == 0:
      return self.radius
    across = self.radius * (math.sqrt(2) if self.shape == 1 else 1)
    return math.hypot(across, self.height / 2)


@dataclasses.dataclass(frozen=True)
class Scene:
  """Objects, the main one first, and the light's bearing (radians)."""

  solids: tuple[Solid, ...]
  bearing: float

  @property
  def label(self) -> int:
    return self.solids[0].label


def draw(seed: int, index: int) -> Scene:
  """Draw the scene number `index`; the same for ever on every machine."""
  uniform = _uniforms(seed, index)
  between = lambda low, high: low + (high - low) * next(uniform)
  pick = lambda count: int(next(uniform) * count)
  while True:
    bearing = between(-0.45, 0.45)
    colour = pick(len(COLOURS))
    shape = pick(len(SHAPES))
    size = between(*_MAIN_SIZE)
    main = _solid(
      shape,
      colour,
      size,
      between(-1.9, 1.9),
      between(-1.8, 1.9),
      between(0, math.pi / 2),
      between(0, 1),
    )
    if not _inside(main):
      continue
    solids = [main]
    wanted = int(np.searchsorted(np.cumsum(_NUM_SMALL), next(uniform)))
    for _ in range(40):
      other = (colour + 1 + pick(len(COLOURS) - 1)) % len(COLOURS)
      solid = _solid(
        pick(len(SHAPES)),
        other,
        between(*_SMALL_SIZE),
        between(-2.6, 2.6),
        between(-2.4, 3.2),
        between(0, math.pi / 2),
        between(0, 1),
      )
      if len(solids) <= wanted and _fits(solid, solids):
        solids.append(solid)
    if len(solids) == wanted + 1:
      return Scene(tuple(solids), bearing)


def project(points: np.ndarray) -> np.ndarray:
  """Return column, row in -1..1 (rows downwards) and distance of points.

  The distance is along the viewing axis, in world units; [..., 3] both ways.
  """
  right, down, forward = axes()
  offset = points - CAMERA
  far = offset @ forward
  scale = far * HALF_WIDTH
  return np.stack([offset @ right / scale, offset @ down / scale, far], -1)


@functools.cache
def axes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Return the camera's unit axes: right, down and forward."""
  forward = (TARGET - CAMERA) / np.linalg.norm(TARGET - CAMERA)
  right = np.cross(forward, [0.0, 0.0, 1.0])
  right /= np.linalg.norm(right)
  return right, np.cross(forward, right), forward


def extent(solid: Solid) -> tuple[np.ndarray, np.ndarray]:
  """Return two corners (column, row) of a box that holds the object."""
  column, row, far = project(solid.centre)
  middle = np.array([column, row])
  # Perspective stretches a sphere off the axis, by up to an eighth here.
  radius = 1.13 * solid.reach / (far * HALF_WIDTH)
  return middle - radius, middle + radius


def _solid(shape, colour, size, x, y, angle, gloss):
  # Proportions that make the shapes about equally large in the picture.
  radius, height = {
    0: (0.95 * size, 1.9 * size),
    1: (0.74 * size, 1.48 * size),
    2: (0.78 * size, 1.6 * size),
    3: (0.95 * size, 1.95 * size),
  }[shape]
  return Solid(shape, colour, x, y, radius, height, angle, gloss)


def _disc(solid):
  """About where an object appears: middle [2] and radius of a disc."""
  low, high = extent(solid)
  return (low + high) / 2, (high[0] - low[0]) / 2 / 1.13


def _inside(solid):
  middle, radius = _disc(solid)
  return np.abs(middle).max() + 0.92 * radius < 1


def _fits(solid, solids):
  """Whether an object neither touches nor hides nor outweighs the others."""
  if not _inside(solid):
    return False
  middle, radius = _disc(solid)
  area = radius**2
  for i, other in enumerate(solids):
    apart = math.hypot(solid.x - other.x, solid.y - other.y)
    if apart < 1.3 * (solid.radius + other.radius) + 0.1:
      return False
    there, reach = _disc(other)
    overlap = (radius + reach - np.linalg.norm(middle - there)) / radius
    if overlap > (0.15 if solid.y < other.y else 0.7):
      return False
    area += reach**2 if i else 0
  return area < 0.5 * _disc(solids[0])[1] ** 2


def _uniforms(seed, index):
  """Yield numbers in 0..1 from raw Philox words, which never change."""
  bits = np.random.Philox(key=np.array([seed, index], np.uint64))
  while True:
    yield from (bits.random_raw(64) >> np.uint64(11)) * 2.0**-53
