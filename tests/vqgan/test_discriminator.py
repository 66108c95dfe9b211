"""PatchGAN: its size, how it begins, and statistics over all devices."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vqgan import discriminator


def test_paper_size_and_grid():
  model = discriminator.Discriminator()
  pixels = jnp.zeros((1, 256, 256, 3))
  logits, variables = jax.eval_shape(
    lambda key: model.init_with_output(key, pixels), jax.random.key(0)
  )
  assert logits.shape == (1, 30, 30)
  leaves = jax.tree.leaves(variables["params"])
  assert sum(math.prod(x.shape) for x in leaves) == 2_765_633


def test_it_begins_with_the_values_of_the_authors():
  model = discriminator.Discriminator(32, 2)
  pixels = jnp.zeros((1, 16, 16, 3))
  params = jax.jit(model.init)(jax.random.key(0), pixels)["params"]
  layers = {"conv_0", "conv_1", "norm_1", "conv_2", "norm_2", "logits"}
  assert params.keys() == layers
  for name, layer in params.items():
    values, middle = layer.get("kernel"), 0.0
    if name.startswith("norm"):
      values, middle = layer["scale"], 1.0
    # Of four standard errors.
    error = 0.02 * 4 / math.sqrt(values.size)
    assert abs(np.mean(values) - middle) < error
    assert abs(np.std(values) - 0.02) < error
    assert (layer.get("bias", np.zeros(1)) == 0).all()


def test_statistics_cover_the_batch_of_all_devices():
  model = discriminator.Discriminator(4, 2)
  pixels = jax.random.normal(jax.random.key(0), (8, 16, 16, 3))
  pixels *= jnp.arange(1.0, 9.0)[:, None, None, None]  # rows differ
  variables = jax.jit(model.init)(jax.random.key(1), pixels)
  apply = jax.jit(
    lambda x: model.apply(variables, x, train=True, mutable=["batch_stats"])
  )
  mesh = jax.make_mesh((8,), ("data",))
  split = jax.device_put(pixels, NamedSharding(mesh, P("data")))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    apply(pixels),
    apply(split),
  )


def test_running_statistics_move_in_training_only():
  model = discriminator.Discriminator(4, 1)
  pixels = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
  variables = jax.jit(model.init)(jax.random.key(1), pixels)
  assert (variables["batch_stats"]["norm_1"]["mean"] == 0).all()
  _, new = model.apply(variables, pixels, mutable=["batch_stats"])
  assert (new["batch_stats"]["norm_1"]["mean"] == 0).all()
  _, new = model.apply(variables, pixels, train=True, mutable=["batch_stats"])
  assert (new["batch_stats"]["norm_1"]["mean"] != 0).all()
