"""How well SUNDAE samples a distribution whose table is known.

    python -m benchmarks.sundae_toy --seeds=5

Six random pictures of 4 x 4 codes, with random probabilities; everything else
has none. Prints the total variation between this table and samples after
training with one, two and three unrolls, beside that of independent draws: of
samples that stop where all their codes are drawn again, or where nothing
changed (of sixteen codes it happens that those which are wrong are not among
those accepted, so that a share is no picture), and that take all their steps.
"""

import argparse
import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np

from layers import transformer
from sundae import corruption, decode, model, unroll
from training import optimizer

_GRID = (4, 4)
_CODES = 5
_PICTURES = 6
_BATCH = 128
_STEPS = 20
# Of columns: when a sample stops by itself.
_STOPS = {
  "all drawn again": {},
  "nothing changed": {"agreed": False},
  "all steps": {"min_steps": _STEPS},
}

_sample = jax.jit(decode.sample, static_argnums=0)


def main(argv: list[str]) -> int:
  """Runs the command."""
  parser = argparse.ArgumentParser("benchmarks.sundae_toy")
  parser.add_argument("--seeds", type=int, default=5)
  parser.add_argument("--num_steps", type=int, default=300)
  args = parser.parse_args(argv)
  print("total variation: mean (least-most) over seeds")
  print("unrolls  " + "".join(f"{name:<24}" for name in _STOPS))
  for unrolls in (1, 2, 3):
    found = [laws(unrolls, x, args.num_steps) for x in range(args.seeds)]
    columns = [[law[name] for law in found] for name in _STOPS]
    cells = [f"{np.mean(x):.3f} ({min(x):.3f}-{max(x):.3f})" for x in columns]
    print(f"{unrolls:>7}  " + "".join(f"{cell:<24}" for cell in cells))
  print(f"  draws  {np.mean([noise(x) for x in range(args.seeds)]):.3f}")
  return 0


def laws(
  unrolls: int, seed: int, num_steps: int = 300, num: int = 4000
) -> dict[str, float]:
  """Trains, samples, and returns the total variations to the table.

  Args:
    unrolls: of training.
    seed: of the table, the network and all draws.
    num_steps: of training.
    num: samples.

  Returns:
    By the names of columns.
  """
  net = _net()
  keys = jax.random.split(jax.random.key(seed), 4)
  pictures, probabilities = table(seed)
  params = jax.jit(net.init)(keys[0], jnp.zeros((1, *_GRID), jnp.int32))
  train = _training(unrolls, num_steps)
  params = train(params, keys[1], pictures, probabilities)
  given = decode.nothing_given(jnp.zeros(num, jnp.int32), _GRID)
  found = {}
  for name, stops in _STOPS.items():
    settings = decode.Settings.create(_STEPS, 1.0, 0.5, argmax=True, **stops)
    codes, _ = _sample(
      net, params, jax.random.split(keys[2], num), given, settings
    )
    same = np.asarray(codes)[:, None] == np.asarray(pictures)
    same = same.all(axis=(2, 3))  # [b, picture]
    states = np.where(same.any(1), same.argmax(1), _PICTURES)
    found[name] = _variation(states, probabilities)
  return found


def _net():
  return model.Hourglass(
    _GRID,
    _CODES,
    transformer.Shape(
      width=24, num_heads=2, head_width=12, gate=None, qkv_bias=False
    ),
    layers=(1, 0, 1),
  )


@functools.cache
def _training(unrolls, num_steps):
  """Return training from first to last step, compiled once for all seeds."""
  net = _net()
  tx = optimizer.make(
    name="adam", peak=1e-2, total_steps=num_steps, schedule="cosine"
  )

  @jax.jit
  def train(params, key, pictures, probabilities):
    def step(carry, key):
      params, opt_state = carry
      draw, corrupt, denoise = jax.random.split(key, 3)
      clean = jax.random.choice(draw, pictures, (_BATCH,), p=probabilities)
      noisy = corruption.corrupt(corrupt, clean, _CODES)
      loss = lambda params: (
        unroll.loss(net.apply, params, clean, noisy, denoise, unrolls)[0]
        / (clean.size * unrolls)
      )
      grads = jax.grad(loss)(params)
      params, opt_state, _ = optimizer.apply_gradients(
        params, opt_state, tx, grads
      )
      return (params, opt_state), None

    start = params, tx.init(params)
    return jax.lax.scan(step, start, jax.random.split(key, num_steps))[0][0]

  return train


def noise(seed: int, num: int = 4000) -> float:
  """Returns the total variation of independent draws from the table."""
  _, probabilities = table(seed)
  rng = np.random.default_rng(seed)
  return _variation(rng.choice(_PICTURES, num, p=probabilities), probabilities)


def table(seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns pictures int32 [6, 4, 4] and their probabilities float64 [6]."""
  rng = np.random.default_rng(seed)
  pictures = rng.integers(0, _CODES, (_PICTURES, *_GRID))
  return pictures.astype(np.int32), rng.dirichlet(np.full(_PICTURES, 4.0))


def _variation(states, probabilities):
  """Compare shares of the pictures, and of anything else, with the table."""
  shares = np.bincount(states, minlength=_PICTURES + 1) / len(states)
  return float(np.abs(shares - np.append(probabilities, 0.0)).sum() / 2)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
