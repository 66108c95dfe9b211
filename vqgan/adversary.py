"""The discriminator's side of a step: what it tells the autoencoder, and how
it learns (Esser et al. 2021, sec. 3.1; options: LeCAM, R1, DiffAugment).

Shapes: b batch, h w rows and columns, c channels. Its parameters are those of
`discriminator.Discriminator`; its state is {"batch_stats", "lecam"}. Running
statistics move with the two batches it learns on; the authors' also move where
it tells the autoencoder.
"""

import dataclasses

import jax
import jax.numpy as jnp

from training import metrics as metrics_lib
from vqgan import augment, discriminator, losses


@dataclasses.dataclass(frozen=True)
class Adversary:
  """Settings of the adversarial loss; the defaults are the paper's.

  Attributes:
    critic: the discriminator.
    weight: of the adversarial loss, times the adaptive weight.
    start: step at which the discriminator begins to learn.
    warmup: steps after `start` in which it learns alone.
    loss: "hinge" or "vanilla".
    same_forward: learn on the reconstruction that the autoencoder learnt on,
      instead of a new one by the updated autoencoder (the authors' order,
      one more forward pass).
    freeze_codebook: keep the codebook as it is from `start` on.
    augment: names of `augment.POLICIES`.
    lecam: weight of the LeCAM regulariser.
    lecam_decay: of its running means of the logits.
    r1: weight of R1, the penalty on gradients at real images.
    r1_every: steps between penalties, each as many times heavier.

  Raises ValueError for an unknown name or a number that is too small.
  """

  critic: discriminator.Discriminator = dataclasses.field(
    default_factory=discriminator.Discriminator
  )
  weight: float = 0.8
  start: int = 0
  warmup: int = 0
  loss: str = "hinge"
  same_forward: bool = True
  freeze_codebook: bool = False
  augment: tuple[str, ...] = ()
  lecam: float = 0.0
  lecam_decay: float = 0.99
  r1: float = 0.0
  r1_every: int = 16

  def __post_init__(self):
    known = losses.DISCRIMINATOR_LOSSES
    if self.loss not in known:
      raise ValueError(f'loss "{self.loss}": choose one of {", ".join(known)}')
    for name in self.augment:
      if name not in augment.POLICIES:
        raise ValueError(
          f'augmentation "{name}": choose from {", ".join(augment.POLICIES)}'
        )
    least = {"weight": 0, "start": 0, "warmup": 0, "lecam": 0, "r1": 0}
    for name, bound in {**least, "r1_every": 1}.items():
      if getattr(self, name) < bound:
        raise ValueError(
          f"adversary.{name} {getattr(self, name)} must be at least {bound}"
        )
    if not 0 <= self.lecam_decay < 1:
      raise ValueError(
        f"adversary.lecam_decay {self.lecam_decay} must be at least 0 and "
        "below 1"
      )

  def check(self, size, channels):
    """Raise ValueError unless it judges images [*size, channels] at all."""
    judges = lambda critic: discriminator.num_logits(critic, size, channels) > 0
    if judges(self.critic):
      return
    num = self.critic.num_layers
    fewer = range(num - 1, 0, -1)
    fits = (n for n in fewer if judges(self.critic.clone(num_layers=n)))
    fitting = next(fits, None)
    remedy = f"set --config.adversary.num_layers={fitting}"
    if fitting is None:
      remedy = "enlarge data.size, or set --config.adversary.weight=0"
    raise ValueError(
      f"images of {size[0]}x{size[1]} leave a discriminator of {num} layers no "
      f"logit: {remedy}"
    )

  def init(self, key, pixels):
    """Return (params, state) for images like pixels [b, h, w, c]."""
    variables = self.critic.init(key, pixels)
    zero = jnp.zeros((), jnp.float32)
    state = {
      "batch_stats": variables["batch_stats"],
      "lecam": {"real": zero, "made": zero},
    }
    return variables["params"], state

  def learns(self, step):
    """Return whether the discriminator learns at this step."""
    return step >= self.start

  def gradient(self, params, state, made, features, by_loss, step, key):
    """Return what the adversarial loss adds to the image's gradient.

    Args:
      params: of the discriminator.
      state: of the discriminator.
      made: the reconstruction [b, h, w, c].
      features: what its last convolution saw.
      by_loss: gradient of the reconstruction loss with respect to `made`.
      step: int scalar.
      key: for the augmentation.

    Returns:
      (gradient [b, h, w, c], zero before start + warmup; metrics).
    """

    def active(made, features, by_loss):
      def loss_fn(made):
        return losses.generator(self._logits(params, state, made, key)[0])

      loss, by_adversary = jax.value_and_grad(loss_fn)(made)
      balance = losses.adaptive_weight(features, (3, 3), by_loss, by_adversary)
      return self.weight * balance * by_adversary, loss, balance

    def inactive(made, features, by_loss):
      zero = jnp.zeros((), jnp.float32)
      return jnp.zeros_like(made), zero, zero

    begun = step >= self.start + self.warmup
    gradient, loss, balance = jax.lax.cond(
      begun, active, inactive, made, features, by_loss
    )
    return gradient, _counted(
      begun,
      {
        "adversary/generator_loss": loss,
        "adversary/adaptive_weight": balance,
      },
    )

  def learn(self, params, state, real, made, step, key):
    """Return how the discriminator changes by one batch.

    Args:
      params: of the discriminator.
      state: of the discriminator.
      real: images [b, h, w, c].
      made: their reconstructions.
      step: int scalar.
      key: for the augmentation.

    Returns:
      (gradients, state, metrics); zero and unchanged before `start`.
    """

    def active(params, state):
      grad_fn = jax.value_and_grad(self._loss, has_aux=True)
      (_, (state, metrics)), grads = grad_fn(
        params, state, real, made, step, key
      )
      return grads, state, metrics

    def inactive(params, state):
      shapes = jax.eval_shape(active, params, state)[2]
      zero = lambda x: jnp.zeros(x.shape, x.dtype)
      grads = jax.tree.map(jnp.zeros_like, params)
      return grads, state, jax.tree.map(zero, shapes)

    begun = self.learns(step)
    grads, state, metrics = jax.lax.cond(begun, active, inactive, params, state)
    return grads, state, _counted(begun, metrics)

  def _loss(self, params, state, real, made, step, key):
    keys = jax.random.split(key, 2)
    stats = state["batch_stats"]
    on_real, stats = self._logits(params, state, real, keys[0])
    on_made, stats = self._logits(
      params, {**state, "batch_stats": stats}, made, keys[1]
    )
    loss = losses.discriminator(self.loss, on_real, on_made)
    metrics = {
      "adversary/discriminator_loss": loss,
      "adversary/logits_real": jnp.mean(on_real),
      "adversary/logits_made": jnp.mean(on_made),
    }
    lecam = state["lecam"]
    if self.lecam:
      means = {"real": jnp.mean(on_real), "made": jnp.mean(on_made)}
      lecam = jax.tree.map(
        lambda old, new: (
          self.lecam_decay * old
          + (1 - self.lecam_decay) * jax.lax.stop_gradient(new)
        ),
        lecam,
        means,
      )
      penalty = losses.lecam(on_real, on_made, lecam["real"], lecam["made"])
      metrics["adversary/lecam"] = penalty
      loss += self.lecam * penalty
    if self.r1:
      # Of each row alone: statistics of the batch would tie rows together,
      # and take away the part of the gradient that they normalise.
      variables = {"params": params, "batch_stats": state["batch_stats"]}
      logits = lambda x: self.critic.apply(variables, x)
      due = step % self.r1_every == 0
      penalty = jax.lax.cond(
        due,
        lambda x: losses.gradient_penalty(logits, x),
        lambda x: jnp.zeros((), jnp.float32),
        real,
      )
      # The zeros of the steps between are no measurements.
      metrics["adversary/r1"] = metrics_lib.Mean.of(penalty, due)
      loss += 0.5 * self.r1 * self.r1_every * penalty
    return loss, ({"batch_stats": stats, "lecam": lecam}, metrics)

  def _logits(self, params, state, pixels, key):
    """Return (logits [b, h', w'], batch_stats after this batch)."""
    pixels = augment.augment(key, pixels, self.augment)
    logits, changed = self.critic.apply(
      {"params": params, "batch_stats": state["batch_stats"]},
      pixels,
      train=True,
      mutable=["batch_stats"],
    )
    return logits, changed["batch_stats"]


def _counted(begun, metrics):
  """Return metrics that count only where `begun`."""
  begun = jnp.asarray(begun, jnp.float32)
  counted = {}
  for name, value in metrics.items():
    mean = metrics_lib.as_mean(value)
    counted[name] = metrics_lib.Mean(mean.total * begun, mean.count * begun)
  return counted
