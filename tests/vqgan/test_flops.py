"""What a compiled step of the first stage costs, against its parts alone."""

import jax

from tests.vqgan import tiny
from training import optimizer
from vqgan import losses

KEY = jax.random.key(3)


def _compiled(function, *args):
  """The operations of the program that XLA makes of a function."""
  program = tiny.jit(function).lower(*args).compile()
  return program.cost_analysis()["flops"]


def test_adversarial_step_costs_one_backward_pass_and_twice_the_last_layer():
  made = tiny.make_task()
  state, batch = tiny.make_state(made), tiny.make_batch(made)
  pixels = made.pixels(batch)
  adversary, generator = made.adversary, state.params["generator"]
  critic = state.params["discriminator"]
  critic_state = state.model_state["discriminator"]

  def reconstruct(generator):
    image, _, _, quantized = made.apply(generator, pixels)
    return losses.pixel("l1", image, pixels) + quantized.loss

  def fool(image):
    return losses.generator(
      adversary._logits(critic, critic_state, image, KEY)[0]
    )

  parts = {
    "autoencoder": _compiled(jax.value_and_grad(reconstruct), generator),
    "to the image": _compiled(jax.value_and_grad(fool), pixels),
    "discriminator": _compiled(
      adversary.learn, critic, critic_state, pixels, pixels, 2, KEY
    ),
    "optimisers": sum(
      _compiled(
        lambda params, moments: optimizer.apply_gradients(
          params, moments, made.tx, params
        ),
        state.params[name],
        state.opt_state[name],
      )
      for name in state.params
    ),
    # Two operations a weight of the 3 x 3 kernel, 4 to 3 channels, twice.
    "adaptive weight": 2 * 2 * pixels[..., 0].size * 9 * 4 * 3,
  }
  whole = _compiled(made.train_step, state, batch, KEY)
  assert whole < 1.03 * sum(parts.values())
  # A second backward pass would be far more than that leaves.
  forward = _compiled(lambda p: made.apply(p, pixels)[0], generator)
  assert parts["autoencoder"] - forward > 0.3 * whole
