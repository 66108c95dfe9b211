"""Augmentation that a discriminator sees through (Zhao et al. 2020).

Real and made images pass the same differentiable transformations on their way
to the discriminator. Shapes: b batch, h w rows and columns, c channels.
"""

import jax
import jax.numpy as jnp

POLICIES = ("color", "translation", "cutout")


def augment(key, images, policy):
  """Transform every image by a draw of its own.

  Args:
    key: a key.
    images: [b, h, w, c].
    policy: names of POLICIES, applied in this order.

  Raises:
    ValueError: for an unknown name.
  """
  transforms = {
    "color": _color,
    "translation": _translation,
    "cutout": _cutout,
  }
  for i, name in enumerate(policy):
    if name not in transforms:
      raise ValueError(
        f'augmentation "{name}": choose from {", ".join(POLICIES)}'
      )
    keys = jax.random.split(jax.random.fold_in(key, i), images.shape[0])
    images = jax.vmap(transforms[name])(keys, images)
  return images


def _color(key, image):
  """Brightness +-0.5, saturation 0 to 2, contrast 0.5 to 1.5; [h, w, c]."""
  shift, saturation, contrast = jax.random.uniform(key, (3,))
  image = image + (shift - 0.5)
  grey = jnp.mean(image, axis=-1, keepdims=True)
  image = grey + (image - grey) * (2.0 * saturation)
  mean = jnp.mean(image)
  return mean + (image - mean) * (0.5 + contrast)


def _translation(key, image):
  """Shift by up to an eighth of each side, with zeros; [h, w, c]."""
  most = [(size + 4) // 8 for size in image.shape[:2]]
  start = jax.random.randint(key, (2,), 0, 2 * jnp.asarray(most) + 1)
  padded = jnp.pad(image, (*((n, n) for n in most), (0, 0)))
  return jax.lax.dynamic_slice(padded, (*start, 0), image.shape)


def _cutout(key, image):
  """Blank a box of half of each side, its centre anywhere; [h, w, c]."""
  sides = image.shape[:2]
  centre = jax.random.randint(key, (2,), 0, jnp.asarray(sides) + 1)
  rows, columns = (
    jnp.abs(jnp.arange(side) + 0.5 - middle) < side / 4
    for side, middle in zip(sides, centre)
  )
  return image * ~(rows[:, None] & columns)[..., None]
