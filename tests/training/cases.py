"""States to save, and ways to damage what was saved."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from training import sharding

RULE = sharding.FsdpRule(min_size=8)


def at(state, step):
  """The state with another step, and other parameters."""
  params = jax.tree.map(lambda x: x + step, state.params)
  return state.replace(step=jnp.int32(step), params=params)


def assert_equal(a, b):
  """Compare bytes and structure."""
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
    assert x.dtype == y.dtype
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def content(folder):
  """All files below a folder, by name."""
  return {
    str(p.relative_to(folder)): p.read_bytes()
    for p in folder.rglob("*")
    if p.is_file()
  }


def flip(path):
  """Flip a bit in the middle."""
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def _truncate(path):
  path.write_bytes(path.read_bytes()[:-1])


def _empty(path):
  path.write_bytes(b"")


def _swap(path):
  others = (p for p in path.parent.parent.rglob("*") if p.is_file())
  other = next(p for p in others if p.read_bytes() != path.read_bytes())
  data = path.read_bytes()
  path.write_bytes(other.read_bytes())
  other.write_bytes(data)


DAMAGE = {
  "flipped bit": flip,
  "truncated": _truncate,
  "emptied": _empty,
  "missing": pathlib.Path.unlink,
  "swapped": _swap,
}
