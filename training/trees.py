"""Trees of arrays by name: flatten, rebuild, compare, checksum."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SEPARATOR = "/"

# Arrays up to this many elements are summed up on the host, where nothing has
# to be compiled.
_SMALL = 2**16


def flatten(tree: Any) -> dict[str, Any]:
  """Name every leaf by its path: {"params/layers/kernel": array}.

  Raises:
    ValueError: two leaves get one name, or a leaf is a typed random key.
  """
  named: dict[str, Any] = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    name = jax.tree_util.keystr(path, simple=True, separator=SEPARATOR)
    if name in named:
      raise ValueError(
        f"two arrays are called {name}: use keys without {SEPARATOR!r}"
      )
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      raise ValueError(
        f"{name} is a random key: keep jax.random.key_data of it, or fold the "
        "step into a constant key"
      )
    named[name] = leaf
  return named


def unflatten(named: Mapping[str, Any], like: Any = None) -> Any:
  """Rebuild a tree: the structure of `like`, or nested dicts without it."""
  if like is not None:
    names = flatten(like)
    leaves = [named[name] for name in names]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)
  tree: dict[str, Any] = {}
  for name, leaf in named.items():
    *parents, last = name.split(SEPARATOR)
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[last] = leaf
  return tree


def select(named: Mapping[str, Any], prefix: str) -> dict[str, Any]:
  """Keep what lies below `prefix`, without it."""
  start = prefix + SEPARATOR
  return {
    name[len(start) :]: leaf
    for name, leaf in named.items()
    if name.startswith(start)
  }


def describe(named: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """Turn arrays or shapes into plain values: shape and dtype by name."""
  return {
    name: {"shape": list(leaf.shape), "dtype": jnp.dtype(leaf.dtype).name}
    for name, leaf in named.items()
  }


def difference(
  saved: Mapping[str, Mapping[str, Any]],
  wanted: Mapping[str, Mapping[str, Any]],
  limit: int = 12,
) -> list[str]:
  """Say in at most `limit` lines how two descriptions differ; [] if equal."""
  lines = []
  for name in sorted(set(saved) | set(wanted)):
    if name not in saved:
      lines.append(f"{name}: not in the checkpoint, {_kind(wanted[name])} now")
    elif name not in wanted:
      lines.append(f"{name}: {_kind(saved[name])} in the checkpoint, gone now")
    elif _kind(saved[name]) != _kind(wanted[name]):
      lines.append(
        f"{name}: {_kind(saved[name])} in the checkpoint, "
        f"{_kind(wanted[name])} now"
      )
  if len(lines) > limit:
    lines = [*lines[:limit], f"... and {len(lines) - limit} more"]
  return lines


def checksums(named: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
  """Sum up the content of arrays on their devices.

  The sum does not depend on the sharding, so that an array read back on
  another mesh has the same one. Every process has to call this.

  Returns:
    ({name: 8 hex digits}, names of the arrays with nan or infinity)
  """
  with np.errstate(over="ignore"):
    pairs = {name: _summary(x) for name, x in named.items()}
  pairs = jax.device_get(pairs)
  return (
    {name: f"{int(pair[0]):08x}" for name, pair in pairs.items()},
    [name for name, pair in pairs.items() if not pair[1]],
  )


def fingerprint(
  description: Mapping[str, Mapping[str, Any]], sums: Mapping[str, str]
) -> str:
  """Digest names, shapes, dtypes and checksums: 16 hex digits."""
  text = json.dumps(
    [[name, _kind(description[name]), sums[name]] for name in sorted(sums)]
  )
  return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def table(params: Any, limit: int = 60) -> str:
  """Lay out parameters as text: name, shape, dtype, count, and the sum."""
  named = flatten(params)
  rows = [
    (name, str(tuple(x.shape)), jnp.dtype(x.dtype).name, math.prod(x.shape))
    for name, x in named.items()
  ]
  total = count(params)
  hidden = len(rows) - limit
  width = max([len(row[0]) for row in rows[:limit]], default=0)
  lines = [
    f"{name:<{width}}  {shape:<20} {dtype:<9} {size:>14,}"
    for name, shape, dtype, size in rows[:limit]
  ]
  if hidden > 0:
    lines.append(f"... and {hidden} more arrays")
  lines.append(f"{len(rows)} arrays, {total:,} parameters")
  return "\n".join(lines)


def count(tree: Any) -> int:
  """Count the elements of all arrays."""
  return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def num_bytes(leaves: Iterable[Any]) -> int:
  """Add up the bytes of arrays or shapes."""
  return sum(math.prod(x.shape) * jnp.dtype(x.dtype).itemsize for x in leaves)


def _kind(description: Mapping[str, Any]) -> str:
  shape = ", ".join(str(size) for size in description["shape"])
  return f"{description['dtype']}[{shape}]"


def _summary(x: Any) -> tuple[Any, Any]:
  """Checksum (uint32) and finiteness (bool) of one array."""
  small = math.prod(x.shape) <= _SMALL
  if small and getattr(x, "is_fully_replicated", True):
    return _summarize(np, np.asarray(x))
  return _summarize_on_device(x)


@jax.jit
def _summarize_on_device(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  return _summarize(jnp, x)


def _summarize(xp: Any, x: Any) -> tuple[Any, Any]:
  """Do the work of `_summary` with NumPy or JAX: the result is the same."""
  finite = (
    xp.isfinite(x).all() if jnp.issubdtype(x.dtype, jnp.inexact) else True
  )
  index = xp.arange(math.prod(x.shape), dtype=xp.uint32).reshape(x.shape)
  total = xp.zeros((1,), xp.uint32)
  for part in _words(xp, x):
    # The finaliser of MurmurHash3 on content and place; sums of uint32 wrap
    # and commute, so any sharding gives the same.
    word = part ^ (index * xp.uint32(0x9E3779B1) + xp.uint32(0x7F4A7C15))
    word = (word ^ (word >> xp.uint32(16))) * xp.uint32(0x85EBCA6B)
    word = (word ^ (word >> xp.uint32(13))) * xp.uint32(0xC2B2AE35)
    word = word ^ (word >> xp.uint32(16))
    total = total * xp.uint32(31) + xp.sum(word, dtype=xp.uint32)
  return total[0], finite


def _words(xp: Any, x: Any) -> list[Any]:
  """See the bits of an array as one or more uint32 arrays of its shape."""
  if jnp.issubdtype(x.dtype, jnp.complexfloating):
    return _words(xp, x.real) + _words(xp, x.imag)
  if x.dtype == bool:
    return [x.astype(xp.uint32)]
  width = jnp.dtype(x.dtype).itemsize
  if width == 8:
    halves = _bitcast(xp, x[..., None], xp.uint32).reshape((*x.shape, 2))
    return [halves[..., 0], halves[..., 1]]
  unsigned = {1: xp.uint8, 2: xp.uint16, 4: xp.uint32}[width]
  return [_bitcast(xp, x, unsigned).astype(xp.uint32)]


def _bitcast(xp: Any, x: Any, dtype: Any) -> Any:
  if xp is np:
    return np.ascontiguousarray(x).reshape(x.shape).view(dtype)
  return jax.lax.bitcast_convert_type(x, dtype)
