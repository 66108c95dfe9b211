"""Images to list, and comparing lists that three programs made."""

import jax
import numpy as np

from dctransformer import dct, sparse

NAMES = ("channel", "position", "value", "length", "total")

_to_coefficients = jax.jit(dct.to_coefficients, static_argnums=0)
_to_elements = jax.jit(sparse.to_elements, static_argnums=(0, 2))
_scatter = jax.jit(sparse.to_coefficients, static_argnums=0)


def picture(h: int, w: int, seed: int = 0) -> np.ndarray:
  """Draws coloured waves with some noise, uint8 [h, w, 3]."""
  generator = np.random.default_rng(seed)
  y, x = np.mgrid[:h, :w][..., None]
  waves = 0
  for _ in range(6):
    fy, fx, phase = generator.normal(0, 0.15, (3, 3))
    waves = waves + np.sin(fy * y + fx * x + 40 * phase)
  noise = generator.normal(0, 6, (h, w, 3))
  return np.clip(128 + 30 * waves + noise, 0, 255).astype(np.uint8)


def definition(
  codec: dct.Codec, image: np.ndarray, room: int
) -> dict[str, np.ndarray]:
  """Lists an image of whole blocks by the JAX definition."""
  elements = _to_elements(codec, _to_coefficients(codec, image), room)
  return {name: np.asarray(getattr(elements, name)) for name in NAMES}


def as_elements(row) -> sparse.Elements:
  """Takes the first image of a row, or a list without row axis."""
  leaves = [np.asarray(row[name]) for name in NAMES]
  if leaves[-1].ndim:
    leaves = [leaf[0] for leaf in leaves]
  return sparse.Elements(*(leaf.astype(np.int32) for leaf in leaves))


def assert_same(codec: dct.Codec, row, other, ties: float = 0.0) -> None:
  """Asserts equal lists, but for a share of cells that were rounding ties."""
  ours, theirs = as_elements(row), as_elements(other)
  difference = np.asarray(_scatter(codec, ours) - _scatter(codec, theirs))
  assert np.abs(difference).max(initial=0) <= (1 if ties else 0)
  assert np.count_nonzero(difference) <= ties * difference.size
  if not difference.any():
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
