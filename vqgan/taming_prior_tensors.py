"""The authors' transformers: their names and layouts of tensors, and ours."""

import re
from collections.abc import Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from vqgan import orders, taming, taming_prior, taming_tensors

_IGNORED = re.compile(
  r"^loss\.|^be_unconditional$|^colorize$|\.num_batches_tracked$"
)


@taming.typed("the checkpoint")
def variables(
  tensors: taming.Tensors, stage: taming_prior.SecondStage
) -> dict[str, dict[str, Any]]:
  """Return the parameters of `stage.module()`, float32.

  Rows of their table and head that no code and no condition of ours reaches
  are left out; rows that they lack (a null class) are the mean of the others.

  Raises:
    TamingError: tensors are missing, unexpected or of other shapes, or masks
      or orders are not as the settings say; all names are listed.
  """
  _check_buffers(tensors, stage)
  module = stage.module()
  condition = jnp.zeros((1, 1), jnp.int32) if module.num_conditions else None
  if stage.n_unmasked:
    condition = jnp.zeros((1, stage.n_unmasked), jnp.int32)
  label = jnp.zeros(1, jnp.int32) if stage.num_classes else None
  shapes = jax.eval_shape(
    module.init,
    jax.random.key(0),
    jnp.zeros((1, 2), jnp.int32),
    condition,
    label,
  )["params"]
  tree, missing, misshaped, expected = {}, [], [], set()
  for path, leaf in flax.traverse_util.flatten_dict(shapes).items():
    names = _names(path, stage.layers)
    expected.update(names)
    gone = [name for name in names if name not in tensors]
    missing += gone
    if gone:
      continue
    needed = _their_shape(path, leaf.shape, stage)
    wrong = [name for name in names if tensors[name].shape != needed]
    misshaped += [f"{x} {tensors[x].shape} (needs {needed})" for x in wrong]
    if wrong:
      continue
    tree[path] = _to_ours(path, [tensors[name] for name in names], leaf.shape)
  unexpected = [
    name
    for name in tensors
    if name not in expected
    and not name.startswith(
      (taming_prior.FIRST, taming_prior.CONDITION, "permuter.")
    )
    and not name.endswith(".attn.mask")
    and not _IGNORED.search(name)
  ]
  taming_tensors.check_names(missing, unexpected, misshaped)
  return {"params": flax.traverse_util.unflatten_dict(tree)}


def export(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Return a prior's parameters by the authors' names and layouts.

  Raises:
    TamingError: the prior has what theirs have not: classes that are added,
      or several tables.
  """
  found = {}
  for path, leaf in flax.traverse_util.flatten_dict(params["params"]).items():
    array = np.asarray(leaf)
    names = _names(path, array.shape[0])
    if not names:
      raise taming.TamingError(
        f"{'/'.join(path)} has no place in the authors' transformer: they "
        "have one shared table and class tokens"
      )
    if path[0] == "stack":
      layers = array.swapaxes(-1, -2) if path[-1] == "kernel" else array
    else:
      layers = [array.T if path[-1] == "kernel" else array]
    if path[0] == "positions":
      layers = [array[None]]
    found.update(zip(names, map(np.ascontiguousarray, layers)))
  return found


def _check_buffers(tensors, stage):
  """Masks and permutations are no parameters, but they say what was trained."""
  causal = np.tril(np.ones((stage.length, stage.length), bool))
  causal[: stage.n_unmasked, : stage.n_unmasked] = True
  for name in tensors:
    if not name.endswith(".attn.mask"):
      continue
    mask = np.asarray(tensors[name])[0, 0] != 0
    if mask.shape != causal.shape or (mask != causal).any():
      raise taming.TamingError(
        f"{name} is not the mask of {stage.length} slots with n_unmasked "
        f"{stage.n_unmasked}: the yaml is of another checkpoint"
      )
  shuffled = tensors.get("permuter.forward_shuffle_idx")
  if shuffled is not None:
    side = round(shuffled.size**0.5)
    expected = orders.order(stage.order, side, shuffled.size // side)
    if not np.array_equal(expected, shuffled):
      raise taming.TamingError(
        f"permuter.forward_shuffle_idx is not the order {stage.order}"
      )


_PLAIN = {
  ("code_table", "embedding"): "tok_emb.weight",
  ("positions", "table"): "pos_emb",
  ("norm", "scale"): "ln_f.weight",
  ("norm", "bias"): "ln_f.bias",
  ("head", "kernel"): "head.weight",
}
_LAYERS = {
  ("attend_self", "norm"): "ln1",
  ("attend_self", "layer", "query"): "attn.query",
  ("attend_self", "layer", "key"): "attn.key",
  ("attend_self", "layer", "value"): "attn.value",
  ("attend_self", "layer", "out"): "attn.proj",
  ("feed_forwards_0", "norm"): "ln2",
  ("feed_forwards_0", "layer", "wide"): "mlp.0",
  ("feed_forwards_0", "layer", "narrow"): "mlp.2",
}


def _names(path, layers):
  """Return the authors' names of one of our leaves, one a layer."""
  if path in _PLAIN:
    return [taming_prior.PREFIX + _PLAIN[path]]
  inner = _LAYERS.get(path[2:-1])
  leaf = "bias" if path[-1] == "bias" else "weight"
  if path[0] != "stack" or inner is None:
    return []
  return [
    f"{taming_prior.PREFIX}blocks.{i}.{inner}.{leaf}" for i in range(layers)
  ]


def _their_shape(path, shape, stage):
  """Return the shape of each of the authors' tensors of one of our leaves."""
  if path[0] in ("code_table", "head"):
    return (stage.vocabulary, stage.width)
  if path[0] == "positions":
    return (1, *shape)
  shape = shape[1:] if path[0] == "stack" else shape
  return tuple(reversed(shape)) if path[-1] == "kernel" else tuple(shape)


def _to_ours(path, arrays, shape):
  """Stack the layers of their arrays, in our layout."""
  if path[0] in ("code_table", "head"):
    array = np.asarray(arrays[0], np.float32)
    rows = shape[0] if path[0] == "code_table" else shape[1]
    lacking = max(rows - len(array), 0)
    mean = array.mean(0, keepdims=True).repeat(lacking, 0)
    array = np.concatenate([array, mean])[:rows]
    return array if path[0] == "code_table" else array.T
  kernel = path[-1] == "kernel"
  layers = (np.asarray(x, np.float32) for x in arrays)
  layers = [x.T if kernel else x for x in layers]
  if path[0] == "stack":
    return np.stack(layers)
  return layers[0].reshape(shape)
