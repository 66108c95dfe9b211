"""What a model learns to undo: codes replaced at random, some or all of them.

Shapes: b batch, h w rows and columns of codes, v codes of the vocabulary.
"""

import jax
import jax.numpy as jnp


def corrupt(key, codes, num_codes):
  """Replace each code with its sample's chance (Savinov et al. 2021, sec. 2.2).

  The chance is drawn from U(0, 1) for each sample, the replacement uniformly
  from all codes; it may be the code itself.

  Args:
    key: one key.
    codes: int32 [b, h, w].
    num_codes: v.

  Returns:
    int32 [b, h, w].
  """
  rate_key, mask_key, code_key = jax.random.split(key, 3)
  rates = jax.random.uniform(rate_key, codes.shape[:1])  # [b]
  return replace(mask_key, code_key, codes, rates, num_codes)


def replace(mask_key, code_key, codes, rates, num_codes):
  """Replace each code with a given chance, float32 [b], by a uniform one."""
  mask = jax.random.uniform(mask_key, codes.shape) < rates[:, None, None]
  noise = jax.random.randint(code_key, codes.shape, 0, num_codes)
  return jnp.where(mask, noise, codes)
