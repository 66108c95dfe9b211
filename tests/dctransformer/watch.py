"""What a compiled program's network is given and returns, while it runs.

The interceptor looks in from here: the product has no hooks.
"""

import contextlib

import flax.linen as nn
import jax

from dctransformer import model


@contextlib.contextmanager
def calls(seen, *methods):
  """Make programs that are traced inside tell of calls of the network.

  Args:
    seen: list; each call appends (method, arguments, result) while the program
      runs, in order, as arrays of the host. Arguments are the positional ones.
    methods: of `model.DCTransformer`.
  """

  def interceptor(call, args, kwargs, context):
    result = call(*args, **kwargs)
    name = context.method_name
    if name in methods and isinstance(context.module, model.DCTransformer):
      jax.debug.callback(
        lambda *told: seen.append((name, *told)), args, result, ordered=True
      )
    return result

  with nn.intercept_methods(interceptor):
    yield
    jax.effects_barrier()
