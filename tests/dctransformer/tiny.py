"""A tiny DCTransformer and lists to test it with."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dctransformer import chunks, dct, model, sparse, task
from layers import transformer
from training import state

CODEC = dct.Codec(block=8, quality=50, rows=4, cols=4, max_value=32)
PLAN = chunks.Plan(chunk_len=12, overlap=4, max_chunks=5)


def make_model(codec=CODEC, plan=PLAN, num_classes=3, gate=0.3, **kwargs):
  """Return a small model whose gates are open, so that everything matters."""
  return model.DCTransformer(
    codec,
    plan,
    transformer.Shape(width=16, num_heads=2, gate=gate, **kwargs),
    model.Layout((1,), (1, 1), (1,), (1,)),
    num_classes=num_classes,
    stride=2,
    kernel=4,
  )


def make_task(tx=None, **kwargs):
  """Return a task around `make_model`."""
  fields = {
    name: kwargs.pop(name)
    for name in ("ema_decay", "accumulate", "class_drop", "weighted")
    if name in kwargs
  }
  tx = optax.adam(1e-3) if tx is None else tx
  return task.DCTransformerTask(make_model(**kwargs), tx, **fields)


def make_images(count, seed=0, side=32):
  """Return smooth random images, uint8 [b, h, w, 3]."""
  coarse = np.random.default_rng(seed).uniform(0, 255, (count, 4, 4, 3))
  image = jax.image.resize(coarse, (count, side, side, 3), "cubic")
  return np.asarray(jnp.clip(image, 0, 255).astype(jnp.uint8))


def make_batch(chunk, codec=CODEC, plan=PLAN, seed=0):
  """Return a batch with one row for each chunk index in `chunk`."""
  images = make_images(len(chunk), seed)
  coefficients = dct.to_coefficients(codec, images)
  elements = sparse.to_elements(codec, coefficients, plan.max_elements)
  b = len(chunk)
  rows = images.shape[1] // codec.block
  return {
    "channel": elements.channel.astype(jnp.int16),
    "position": elements.position.astype(jnp.int16),
    "value": elements.value.astype(jnp.int16),
    "length": elements.length,
    "total": elements.total,
    "chunk": jnp.asarray(chunk, jnp.int32),
    "label": jnp.arange(b, dtype=jnp.int32) % 3,
    "example_id": jnp.arange(b, dtype=jnp.int32),
    "clipped": jnp.zeros((b,), jnp.int32),
    "size": jnp.full((b, 2), images.shape[1], jnp.int32),
    "blocks": jnp.full((b, 2), rows, jnp.int32),
  }


def init_model(net, seed, *inputs):
  """Fill a model's parameters by NumPy: compiling `init` takes seconds."""
  shapes = jax.eval_shape(net.init, jax.random.key(0), *inputs)
  return _fill(shapes, np.random.default_rng(seed), net.shape.gate)


def init_task(task, seed=0):
  """Return the task's state of step 0 with parameters from NumPy."""
  shapes = jax.eval_shape(
    lambda key: task.init(key, measured(task.codec)), jax.random.key(0)
  )
  params = _fill(
    shapes.params, np.random.default_rng(seed), task.model.shape.gate
  )
  frozen = {"channel_std": jnp.asarray(measured(task.codec)["channel_std"])}
  ema = shapes.ema is not None
  return state.State.create(params, task.tx, ema=ema, frozen=frozen)


def _fill(shapes, rng, gate):
  """Draw weights N(0, 0.02), scales 1, biases 0 and gates at their start."""

  def fill(path, leaf):
    name = path[-1].key
    constant = {"gate": gate, "scale": 1.0, "bias": 0.0}.get(name)
    if constant is not None:
      return jnp.full(leaf.shape, constant, jnp.float32)
    return jnp.asarray(rng.normal(0, 0.02, leaf.shape), jnp.float32)

  return jax.tree_util.tree_map_with_path(fill, shapes)


def measured(codec=CODEC):
  """Return what a task measures before `init`."""
  return {"channel_std": np.full((codec.num_channels,), 2.0, np.float32)}
