"""Losses of the first stage (Esser et al. 2021, sec. 3.1) and its options.

Shapes: b batch, h w rows and columns, c channels. Images are float32 in
[-1, 1]; logits of the discriminator are [b, h', w'].
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from layers import convolution

DISCRIMINATOR_LOSSES = ("hinge", "vanilla")
PIXEL_LOSSES = ("l1", "l2")


def absolute_error(image, target):
  """Return the mean absolute error of each row, [b]."""
  return jnp.mean(jnp.abs(image - target), axis=(1, 2, 3))


def squared_error(image, target):
  """Return the mean squared error of each row, [b]."""
  return jnp.mean(jnp.square(image - target), axis=(1, 2, 3))


def pixel(name, image, target):
  """Return the mean error over rows and pixels, a scalar.

  Args:
    name: "l1", absolute, as the authors train, or "l2", squared, as the paper
      writes (sec. 3.1), where large errors of a few pixels count most.
    image: the reconstructions.
    target: the images.

  Raises:
    ValueError: for another name.
  """
  if name == "l1":
    return jnp.mean(absolute_error(image, target))
  if name == "l2":
    return jnp.mean(squared_error(image, target))
  raise ValueError(
    f'pixel loss "{name}": choose one of {", ".join(PIXEL_LOSSES)}'
  )


def binary_cross_entropy(logits, target):
  """Return the mean binary cross-entropy of each row in nats, [b].

  Args:
    logits: [b, h, w, c].
    target: one-hot label maps [b, h, w, c] of 0 and 1.
  """
  nats = jax.nn.softplus(logits) - logits * target
  return jnp.mean(nats, axis=(1, 2, 3))


def discriminator(name, real, made):
  """Return the discriminator's loss of its logits, a scalar.

  Args:
    name: "hinge", 0.5 (mean relu(1 - real) + mean relu(1 + made)), or
      "vanilla", the cross-entropy 0.5 (mean softplus(-real) + ...(made)).
    real: logits of the images.
    made: logits of the reconstructions.

  Raises:
    ValueError: for another name.
  """
  if name == "hinge":
    loss = lambda logits: jnp.mean(jax.nn.relu(1.0 - logits))
  elif name == "vanilla":
    loss = lambda logits: jnp.mean(jax.nn.softplus(-logits))
  else:
    raise ValueError(
      f'discriminator loss "{name}": choose one of '
      f"{', '.join(DISCRIMINATOR_LOSSES)}"
    )
  return 0.5 * (loss(real) + loss(-made))


def generator(made):
  """Return the adversarial loss -mean D(xhat), a scalar."""
  return -jnp.mean(made)


def adaptive_weight(features, kernel_size, by_reconstruction, by_adversary):
  """Balance two losses by their gradients at the last convolution.

  clip(|g_reconstruction| / (|g_adversary| + 1e-4), 0, 1e4), the gradients
  with respect to the kernel of the convolution that made the image. Both
  come from one transposed layer, not from a backward pass each.

  Args:
    features: what that convolution saw, [b, h, w, c'].
    kernel_size: its rows and columns.
    by_reconstruction: gradient of the reconstruction loss with respect to the
      image [b, h, w, c].
    by_adversary: the same of the adversarial loss.

  Returns:
    Float32 scalar without a gradient.
  """
  features = jax.lax.stop_gradient(features)

  def norm(gradient):
    gradient = convolution.gradient_to_kernel(
      features, gradient.astype(features.dtype), kernel_size
    )
    return jnp.sqrt(jnp.sum(jnp.square(gradient.astype(jnp.float32))))

  weight = norm(by_reconstruction) / (norm(by_adversary) + 1e-4)
  return jax.lax.stop_gradient(jnp.clip(weight, 0.0, 1e4))


def lecam(real, made, average_real, average_made):
  """Keep logits near the running means of the other side (Tseng et al. 2021).

  Args:
    real: logits of the images.
    made: logits of the reconstructions.
    average_real: running mean of the former, a scalar.
    average_made: running mean of the latter.
  """
  return jnp.mean(jax.nn.relu(real - average_made) ** 2) + jnp.mean(
    jax.nn.relu(average_real - made) ** 2
  )


def gradient_penalty(
  logits: Callable[[jax.Array], jax.Array], images: jax.Array
) -> jax.Array:
  """Return R1, mean |d sum(D(x)) / dx|^2 over rows (Mescheder et al. 2018).

  Args:
    logits: the discriminator as a function of images.
    images: real images [b, h, w, c].
  """
  gradient = jax.grad(lambda x: jnp.sum(logits(x)))(images)
  return jnp.mean(jnp.sum(jnp.square(gradient), axis=(1, 2, 3)))
