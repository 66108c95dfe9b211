"""From a scene to pixels: ray casting with shadows, vectorised over rays.

Every pixel averages 4 x 4 rays. Each of the sixteen sees the light from
another point of a disc, so shadows have soft edges without noise. Lengths are
world units (`data/scenes/scene.py`). Light adds up linearly and is encoded at
the end.
Letters: `k` rays along a pixel's side.
"""

import dataclasses
import functools

import numpy as np

from data.scenes import scene as scene_lib

_K = 4
# Rays at a time, so that memory stays flat at side 1024.
_MAX_RAYS = 1 << 17
_CAMERA = scene_lib.CAMERA.astype(np.float32)[:, None, None]

# Linear reflectances, in the order of scene.COLOURS.
_ALBEDO = np.array(
  [
    [0.72, 0.045, 0.04],
    [0.86, 0.60, 0.03],
    [0.06, 0.46, 0.08],
    [0.03, 0.52, 0.58],
    [0.05, 0.13, 0.74],
    [0.42, 0.07, 0.60],
  ],
  np.float32,
)
_GROUND = np.array([0.60, 0.585, 0.56], np.float32)
_SKY = np.array([0.30, 0.31, 0.33], np.float32)
_SUN = np.array([0.98, 0.96, 0.92], np.float32)
# Height of the light above the horizon, and half its width, in radians.
_ELEVATION = 0.88
_LIGHT_WIDTH = 0.11


@dataclasses.dataclass(frozen=True)
class Picture:
  """A rendered scene of side s.

  Attributes:
    image: uint8 [s, s, 3], sRGB.
    segmentation: uint8 [s, s], 0 for the ground, else class + 1.
    depth: uint16 [s, s], thousandths of a unit along the viewing axis.
    boxes: float32 [m, 4], top, left, bottom, right in 0..1, the main object
      first; what others hide of an object counts.
    box_labels: int32 [m], classes.
    label: class of the main object.
  """

  image: np.ndarray
  segmentation: np.ndarray
  depth: np.ndarray
  boxes: np.ndarray
  box_labels: np.ndarray
  label: int


def render(scene: scene_lib.Scene, side: int) -> Picture:
  """Render a scene at any side in 32..1024 pixels."""
  if not 32 <= side <= 1024:
    raise ValueError(f"side {side} must be in 32..1024")
  image = np.empty((side, side, 3), np.uint8)
  owner = np.empty((side, side), np.int8)
  depth = np.empty((side, side), np.float32)
  spans = [_Span() for _ in scene.solids]
  lights = _lights(scene.bearing, side)
  band = max(_MAX_RAYS // (_K * _K * side), 1)
  for top in range(0, side, band):
    rows = slice(top, min(top + band, side))
    view = _view(side, rows.start, rows.stop)
    colour, owner[rows], depth[rows] = _trace(scene, lights, view, spans)
    image[rows] = _encode(colour)
  labels = np.array([solid.label for solid in scene.solids], np.int32)
  return Picture(
    image=image,
    segmentation=np.append(labels + 1, 0).astype(np.uint8)[owner],
    depth=np.rint(depth * 1000).astype(np.uint16),
    boxes=np.stack([span.box(side * _K) for span in spans]),
    box_labels=labels,
    label=scene.label,
  )


class _Span:
  """The smallest box around an object's rays, grown band by band."""

  def __init__(self):
    self.low, self.high = np.array([np.inf, np.inf]), np.array([0.0, 0.0])

  def add(self, mask, top, left):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows):
      low, high = (rows[0], columns[0]), (rows[-1] + 1, columns[-1] + 1)
      self.low = np.minimum(self.low, np.add(low, (top, left)))
      self.high = np.maximum(self.high, np.add(high, (top, left)))

  def box(self, rays):
    return (np.concatenate([self.low, self.high]) / rays).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class _View:
  """What depends on the side alone: the rays of a band of rows.

  Attributes:
    side: pixels along the picture.
    top: first row of rays.
    ray: unit directions [3, h, w], h and w counting rays.
    along: share of a unit ray along the viewing axis [h, w].
    reach: how far the ground is along each ray [h, w].
    ground: where each ray meets it [3, h, w].
    pool: light falling off towards the edges [h / k, w / k].
  """

  side: int
  top: int
  ray: np.ndarray
  along: np.ndarray
  reach: np.ndarray
  ground: np.ndarray
  pool: np.ndarray

  def window(self, low, high):
    """Rays between two corners (column, row in -1..1), or None.

    Slices of the band, at whole pixels.
    """
    height, width = self.along.shape
    scale = self.side / 2
    low = np.floor((low + 1) * scale).astype(int) * _K
    high = np.ceil((high + 1) * scale).astype(int) * _K
    left, right = max(low[0], 0), min(high[0], width)
    top, bottom = max(low[1] - self.top, 0), min(high[1] - self.top, height)
    if left >= right or top >= bottom:
      return None
    return slice(top, bottom), slice(left, right)


@functools.lru_cache(maxsize=16)
def _view(side, start, stop):
  right, down, forward = scene_lib.axes()
  line = (np.arange(side * _K) + 0.5) / (side * _K) * 2 - 1
  column = line[None] * scene_lib.HALF_WIDTH
  row = line[start * _K : stop * _K, None] * scene_lib.HALF_WIDTH
  ray = np.stack(
    [forward[i] + column * right[i] + row * down[i] for i in range(3)]
  )
  length = np.sqrt((ray**2).sum(0))
  ray = (ray / length).astype(np.float32)
  camera = scene_lib.CAMERA.astype(np.float32)[:, None, None]
  reach = -camera[2] / ray[2]  # every ray meets the ground
  ground = camera + reach * ray
  square = ground[0] ** 2 + (0.8 * ground[1]) ** 2
  return _View(
    side=side,
    top=start * _K,
    ray=ray,
    along=(1 / length).astype(np.float32),
    reach=reach,
    ground=ground,
    pool=_pixels(1 / (1 + 0.007 * square)),
  )


def _pixels(rays):
  """Mean of the k x k rays of every pixel, [..., h, w] to [..., h/k, w/k]."""
  *lead, h, w = rays.shape
  return rays.reshape(*lead, h // _K, _K, w // _K, _K).mean((-3, -1))


def _lights(bearing, side):
  """Directions to points of the light, a tile of rays, float32 [3, n, n]."""
  centre = np.array(
    [
      -np.cos(_ELEVATION) * np.cos(bearing),
      -np.cos(_ELEVATION) * np.sin(bearing),
      np.sin(_ELEVATION),
    ]
  )
  across = np.cross(centre, [0, 0, 1.0])
  across /= np.linalg.norm(across)
  up = np.cross(across, centre)
  # In large pictures sixteen points would leave steps in a soft edge, so
  # neighbouring pixels see different ones.
  tile = max(side // 128, 1)
  count = tile * tile * _K * _K
  # A sunflower's disc: every pixel has points at all distances from its middle.
  n = np.arange(count)
  reach = np.sqrt((n + 0.5) / count) * _LIGHT_WIDTH
  turn = n * np.pi * (3 - np.sqrt(5))
  points = centre[:, None] + reach * (
    np.cos(turn) * across[:, None] + np.sin(turn) * up[:, None]
  )
  points /= np.linalg.norm(points, axis=0)
  points = points.reshape(3, _K, _K, tile, tile).transpose(0, 3, 1, 4, 2)
  return points.reshape(3, tile * _K, tile * _K).astype(np.float32)


def _trace(scene, lights, view, spans):
  """Light [h, w, 3], owner (-1 ground) and depth [h, w] of a band's pixels."""
  h, w = view.along.shape
  n = lights.shape[1]
  rows, columns = (view.top + np.arange(h)) % n, np.arange(w) % n
  light = lights[:, rows[:, None], columns]
  distance, owner = view.reach.copy(), np.full((h, w), -1, np.int8)
  windows = [view.window(*scene_lib.extent(solid)) for solid in scene.solids]
  for i, (solid, window) in enumerate(zip(scene.solids, windows)):
    if window is None:
      continue
    t = _hit(solid, _CAMERA, view.ray[:, *window])
    spans[i].add(t < np.inf, view.top + window[0].start, window[1].start)
    nearer = t < distance[window]
    owner[window][nearer] = i
    distance[window][nearer] = t[nearer]
  colour = _ground(scene, lights, light, view, owner < 0)
  for i, window in enumerate(windows):
    mine = owner[window] == i if window else np.zeros(())
    if not mine.any():
      continue
    ray = view.ray[:, *window][:, mine]
    point = _CAMERA[..., 0] + distance[window][mine] * ray
    own = np.zeros((3, *mine.shape), np.float32)
    own[:, mine] = _surface(scene, i, point, ray, light[:, *window][:, mine])
    rows, columns = (slice(s.start // _K, s.stop // _K) for s in window)
    colour[:, rows, columns] += _pixels(own)
  middle = (slice(_K // 2, None, _K),) * 2
  far = (distance * view.along)[middle]
  return colour.transpose(1, 2, 0), owner[middle], far


def _ground(scene, lights, light, view, free):
  """Light from the ground where nothing is in front, [3, h, w] of pixels."""
  seen = free.astype(np.float32)
  for solid in scene.solids:
    window = view.window(*_shadow_extent(solid, lights))
    if window is not None:
      t = _hit(solid, view.ground[:, *window], light[:, *window])
      seen[window] *= ~((t > 0) & (t < np.inf))
  middle = (slice(_K // 2, None, _K),) * 2
  x, y = view.ground[0][middle], view.ground[1][middle]
  sky = (0.5 + 0.5 * view.pool) * _pixels(free.astype(np.float32))
  for solid in scene.solids:
    # What stands nearby hides a part of the sky.
    square = ((x - solid.x) ** 2 + (y - solid.y) ** 2) / solid.radius**2
    sky *= 1 - 0.5 / (1 + 0.8 * square**2)
  sun = view.pool * _pixels(seen * light[2])
  sun, sky = (a * c[:, None, None] for a, c in ((sun, _SUN), (sky, _SKY)))
  return _GROUND[:, None, None] * (sun + sky)


def _shadow_extent(solid, lights):
  """Corners of a box, as in `scene.extent`, that holds an object's shadow."""
  light = lights.reshape(3, -1).T
  foot = solid.centre - light * (solid.centre[2] / light[:, 2:])
  reach = solid.reach / light[:, 2:]
  corners = np.array([(-1, -1, 0), (-1, 1, 0), (1, -1, 0), (1, 1, 0)])
  where = scene_lib.project(foot[:, None] + reach[:, None] * corners)
  where = where[..., :2].reshape(-1, 2)
  return where.min(0), where.max(0)


def _surface(scene, i, point, ray, light):
  """Light from points [3, n] of an object's surface, [3, n]."""
  solid = scene.solids[i]
  normal = _normal(solid, point)
  facing = np.maximum((normal * light).sum(0), 0)
  for j, other in enumerate(scene.solids):
    if j != i:  # convex: its own shadow is where it faces away
      facing *= ~_blocked(other, point, light)
  half = light - ray
  half /= np.sqrt((half**2).sum(0))
  shine = np.maximum((normal * half).sum(0), 0) ** (20 + 40 * solid.gloss)
  shine *= (0.06 + 0.3 * solid.gloss) * (facing > 0)
  # From above comes the sky, from below what the ground sends back.
  sky = 0.75 + 0.25 * normal[2]
  albedo = _ALBEDO[solid.colour][:, None]
  sun, sky = _SUN[:, None] * facing, _SKY[:, None] * sky
  return albedo * (sun + sky) + _SUN[:, None] * shine


def _blocked(solid, point, light):
  """Whether an object is between points [3, n] and the light, bool [n]."""
  offset = solid.centre.astype(np.float32)[:, None] - point
  ahead = (offset * light).sum(0)
  apart = (offset**2).sum(0) - ahead**2
  near = (apart < solid.reach**2) & (ahead > -solid.reach)
  blocked = np.zeros(near.shape, bool)
  if near.any():
    t = _hit(solid, point[:, near], light[:, near])
    blocked[near] = (t > 0) & (t < np.inf)
  return blocked


def _hit(solid, origin, ray):
  """Distance along unit rays to an object, inf where they miss it.

  origin and ray: [3, ...], broadcast against each other.
  """
  shape = scene_lib.SHAPES[solid.shape]
  x, y, z = origin[0] - solid.x, origin[1] - solid.y, origin[2]
  if shape == "sphere":
    z = z - solid.radius
    b = x * ray[0] + y * ray[1] + z * ray[2]
    c = x * x + y * y + z * z - solid.radius**2
    return _roots(np.float32(1), b, c)[0]
  if shape == "cube":
    cos, sin = np.cos(solid.angle), np.sin(solid.angle)
    cos, sin = np.float32(cos), np.float32(sin)
    x, y = cos * x + sin * y, cos * y - sin * x
    u, v = cos * ray[0] + sin * ray[1], cos * ray[1] - sin * ray[0]
    r = np.float32(solid.radius)
    near, far = _slab(x, u, -r, r)
    for low, high in (_slab(y, v, -r, r), _slab(z, ray[2], 0, solid.height)):
      near, far = np.maximum(near, low), np.minimum(far, high)
    return np.where((near < far) & (far > 0), near, np.inf)
  if shape == "cylinder":
    a = ray[0] ** 2 + ray[1] ** 2
    b = x * ray[0] + y * ray[1]
    near, far = _roots(a, b, x * x + y * y - solid.radius**2)
    low, high = _slab(z, ray[2], 0, solid.height)
    near, far = np.maximum(near, low), np.minimum(far, high)
    return np.where((near < far) & (far > 0), near, np.inf)
  slope = np.float32((solid.radius / solid.height) ** 2)
  z = solid.height - z  # downwards from the tip
  w = -ray[2]
  a = ray[0] ** 2 + ray[1] ** 2 - slope * w * w
  b = x * ray[0] + y * ray[1] - slope * z * w
  near, far = _roots(a, b, x * x + y * y - slope * z * z)
  result = np.full(np.broadcast_shapes(near.shape, z.shape), np.inf, np.float32)
  for t in (far, near):
    depth = z + t * w
    fits = (depth >= 0) & (depth <= solid.height) & (t > 0) & (t < result)
    result = np.where(fits, t, result)
  return result


def _roots(a, b, c):
  """Both solutions of a t^2 + 2 b t + c = 0, in order, or (inf, -inf)."""
  d = b * b - a * c
  root = np.sqrt(np.maximum(d, 0))
  a = np.where(np.abs(a) < 1e-9, np.float32(1e-9), a)
  first, second = (-b - root) / a, (-b + root) / a
  near, far = np.minimum(first, second), np.maximum(first, second)
  return np.where(d > 0, near, np.inf), np.where(d > 0, far, -np.inf)


def _slab(position, speed, low, high):
  """When a ray enters and leaves low <= position <= high."""
  speed = np.where(np.abs(speed) < 1e-9, np.float32(1e-9), speed)
  first, second = (low - position) / speed, (high - position) / speed
  return np.minimum(first, second), np.maximum(first, second)


def _normal(solid, point):
  """Outward unit normals at surface points, float32 [3, n]."""
  shape = scene_lib.SHAPES[solid.shape]
  x, y, z = point[0] - solid.x, point[1] - solid.y, point[2]
  if shape == "sphere":
    normal = np.stack([x, y, z - solid.radius])
  elif shape == "cube":
    cos, sin = np.cos(solid.angle), np.sin(solid.angle)
    u, v = cos * x + sin * y, cos * y - sin * x
    w = (z - solid.height / 2) * (2 * solid.radius / solid.height)
    local = np.stack([u, v, w])
    face = np.abs(local) >= np.abs(local).max(0)
    u, v, w = np.sign(local) * face
    normal = np.stack([cos * u - sin * v, sin * u + cos * v, w])
  elif shape == "cylinder":
    top = z >= solid.height * 0.999
    normal = np.stack([x * ~top, y * ~top, 1.0 * top])
  else:
    normal = np.stack([x, y, np.hypot(x, y) * (solid.radius / solid.height)])
  length = np.sqrt((normal**2).sum(0))
  return (normal / np.maximum(length, 1e-6)).astype(np.float32)


def _encode(light):
  """Linear light to sRGB bytes, with a soft shoulder."""
  light = np.where(light > 0.8, 0.8 + 0.2 * np.tanh((light - 0.8) / 0.2), light)
  light = np.clip(light, 0, 1)
  curve = np.where(
    light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055
  )
  return np.rint(curve * 255).astype(np.uint8)
