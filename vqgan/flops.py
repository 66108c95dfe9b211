"""Floating-point operations of the first stage, counted from its programs.

XLA's own count takes the body of a scan once; this one walks over the traced
program, without what nothing depends on, and counts convolutions and matrix
products, two per multiply-add.
"""

import math

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval

from weights import backbones


def count(function, *args):
  """Return the operations of a function on arguments of these shapes."""
  program = jax.make_jaxpr(function)(*args).jaxpr
  needed, _ = partial_eval.dce_jaxpr(program, [True] * len(program.outvars))
  return _jaxpr(needed)


def train_step(task):
  """Return the operations per image of a step of `vqgan.task.VQGANTask`.

  A backward pass costs twice a forward pass; recomputation under remat is
  not counted. With a discriminator it is the step of the adversarial phase.
  """
  model, (h, w) = task.model, task.size
  pixels = jax.ShapeDtypeStruct((1, h, w, model.shape.in_channels), jnp.float32)
  params = jax.eval_shape(model.init, jax.random.key(0), pixels)
  total = 3 * count(model.apply, params, pixels)
  if task.perceptual:
    rgb = jax.ShapeDtypeStruct((1, h, w, 3), jnp.float32)
    net = backbones.MODULES["vgg"]()
    shapes = jax.eval_shape(net.init, jax.random.key(0), rgb)
    # Forward on two images, backward to one of them.
    total += 3 * count(net.apply, shapes, rgb)
  if task.adversary is not None:
    critic = task.adversary.critic
    variables = jax.eval_shape(critic.init, jax.random.key(0), pixels)
    once = count(critic.apply, variables, pixels)
    total += 2 * once  # forward on the reconstruction, backward to it
    total += 6 * once  # forward and backward on two images
    if not task.adversary.same_forward:
      total += count(model.apply, params, pixels)
  return total


def _jaxpr(jaxpr):
  return sum(_equation(equation) for equation in jaxpr.eqns)


def _equation(equation):
  name, params = equation.primitive.name, equation.params
  if name == "conv_general_dilated":
    kernel = equation.invars[1].aval.shape
    out = equation.outvars[0].aval.shape
    channels = params["dimension_numbers"].rhs_spec[0]
    return 2 * math.prod(out) * math.prod(kernel) // kernel[channels]
  if name == "dot_general":
    (contracted, _), _ = params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    depth = math.prod(shape[i] for i in contracted)
    return 2 * math.prod(equation.outvars[0].aval.shape) * depth
  inner = [_jaxpr(inner) for inner in _inner(params)]
  if name == "cond":
    return max(inner)
  return sum(inner) * (params["length"] if name == "scan" else 1)


def _inner(params):
  """Yield the programs among an equation's parameters."""
  for value in params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      item = getattr(item, "jaxpr", item)
      if hasattr(item, "eqns"):
        yield item
