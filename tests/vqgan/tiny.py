"""A first stage that compiles in seconds: 16 px, two levels, 16 codes."""

import functools

import jax
import numpy as np

from training import optimizer
from vqgan import adversary, autoencoder, discriminator, quantizer, task

SHAPE = autoencoder.Shape(
  channels=4,
  multipliers=(1, 1),
  num_blocks=0,
  attention=(),
  resolution=16,
  z_channels=4,
)
CODES = quantizer.Nearest(16, 3)
CRITIC = adversary.Adversary(critic=discriminator.Discriminator(4, 1), start=2)

# Without optimisation a step compiles in half the time.
jit = functools.partial(
  jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


def make_task(critic=CRITIC, quantizer=CODES, shape=SHAPE, **changes):
  """Makes a task without LPIPS."""
  tx = optimizer.make(peak=1e-3, schedule="constant", b1=0.5, b2=0.9)
  dtype = changes.pop("dtype", "float32")
  fields = {
    "model": autoencoder.Autoencoder(shape, quantizer, dtype),
    "size": (16, 16),
    "tx": tx,
    "perceptual": 0.0,
    "adversary": critic,
    "adversary_tx": tx,
    **changes,
  }
  return task.VQGANTask(**fields)


def make_batch(made, size=4, seed=0):
  """Makes random rows of a task's input: smooth, so that codes differ."""
  spec = made.batch_spec(size)
  random = np.random.RandomState(seed)
  batch = {
    "example_id": np.arange(size, dtype=np.int32),
    "mask": np.ones(size, bool),
  }
  rows = spec[made.input]
  if made.target == "segmentation":
    high = made.model.shape.in_channels
  else:
    high = 2**made.bits
  coarse = random.randint(0, high, (size, 4, 4, *rows.shape[3:]))
  high, wide = (side // 4 for side in made.size)
  batch[made.input] = coarse.repeat(high, 1).repeat(wide, 2).astype(rows.dtype)
  return batch


def make_state(made, seed=0):
  """Makes the state of step 0, its codebook on random rows."""
  measured = made.measure([make_batch(made, 16, seed=9)])
  return jit(made.init)(jax.random.key(seed), measured)
