"""The compute precision that a config asks for."""

from typing import Any

import jax
import jax.numpy as jnp

_NAMES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def dtype(name: str) -> Any:
  """Reads `train.dtype`; auto is bfloat16 on accelerators, float32 on CPUs.

  Raises:
    ValueError: an unknown name.
  """
  if name == "auto":
    name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
  if name not in _NAMES:
    raise ValueError(
      f"train.dtype {name!r} must be one of auto, {', '.join(_NAMES)}"
    )
  return _NAMES[name]
