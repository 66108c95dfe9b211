"""A user's own function that says which pictures are better."""

import importlib
from collections.abc import Callable

import jax
import jax.numpy as jnp

from launch import errors

Judge = Callable[[jax.Array, jax.Array], jax.Array]


def load(name: str) -> Judge:
  """Imports a function by its name, checked where it is called.

  Args:
    name: "package.module:function"; found from the working directory too. The
      function is traced by JAX: (images uint8 [b, h, w, 3], labels int32 [b])
      -> [b], larger is better. `jax.pure_callback` calls others. A label may
      be the null class, and is 0 without classes.

  Returns:
    The function; it raises ValueError for a result that is not [b] numbers.

  Raises:
    CommandError: there is no such function.
  """
  module, _, attribute = name.partition(":")
  try:
    function = getattr(importlib.import_module(module), attribute)
  except (ImportError, AttributeError, ValueError) as error:
    raise errors.CommandError(
      f"--score={name} cannot be imported ({error}): give MODULE:FUNCTION"
    ) from error
  if not callable(function):
    raise errors.CommandError(f"--score={name} is no function")

  def judge(images, labels):
    try:
      scores = jnp.asarray(function(images, labels))
    except (
      jax.errors.TracerArrayConversionError,
      jax.errors.ConcretizationTypeError,
    ) as error:
      raise errors.CommandError(
        f"--score={name} is no function of JAX: call it by jax.pure_callback"
      ) from error
    real = jnp.issubdtype(scores.dtype, jnp.floating) or jnp.issubdtype(
      scores.dtype, jnp.integer
    )
    if scores.shape != (len(images),) or not real:
      raise ValueError(
        f"--score={name} gave {scores.dtype}{list(scores.shape)}: it must give "
        f"one number a picture, [{len(images)}]"
      )
    return scores.astype(jnp.float32)

  return judge
