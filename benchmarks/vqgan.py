"""The f16 autoencoder of VQGAN against the same network in PyTorch, on CPU.

    python -m benchmarks.vqgan
    python -m benchmarks.vqgan --channels=32 --repeats=3

Cases: forward at 256 pixels, forward and backward at 128, and at 64 with batch
4; float32, 72M parameters, both in turns, medians of wall and of CPU seconds.
Where torch is not installed, ours alone. Prints a JSON line a case. `--smoke`
runs tiny shapes without timing and checks counts: the step's operations are
those of one backward pass, the adaptive weight's those of two layers, and the
step compiles once. Ends with 1 where one of them is wrong.

    python -m benchmarks.vqgan --memory --side=256

counts what the forward pass keeps for the backward one, with and without remat,
of the traced program: the memory that XLA's CPU compiler takes, which `--smoke`
prints, does not go down.
"""

import argparse
import dataclasses
import importlib
import importlib.util
import json
import os
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import turns
from vqgan import (
  adversary,
  autoencoder,
  discriminator,
  flops,
  losses,
  quantizer,
  task,
)

# Name: (side, batch, backward, asked for: at most this ratio to torch).
CASES = {
  "forward_256": (256, 1, False, 1.05),
  "backward_128": (128, 1, True, 1.35),
  "backward_64x4": (64, 4, True, None),
}


def main(argv: Sequence[str] | None = None) -> int:
  """Run the benchmark; returns the exit status."""
  parser = argparse.ArgumentParser(prog="benchmarks.vqgan")
  parser.add_argument("--cases", default=",".join(CASES))
  parser.add_argument("--channels", type=int, default=128)
  parser.add_argument("--repeats", type=int, default=7, help="median of these")
  turns.add_threads(parser)
  parser.add_argument("--smoke", action="store_true", help="tiny; only counts")
  parser.add_argument("--memory", action="store_true", help="only of remat")
  parser.add_argument("--side", type=int, default=256, help="of --memory")
  args = parser.parse_args(argv)
  turns.use_threads(args.threads, parser)
  if args.memory:
    shape = autoencoder.Shape(channels=args.channels, norm_least=1)
    found = {"side": args.side, "batch": 1, **kept(shape, args.side)}
    print(json.dumps({"benchmark": "vqgan", **found}))
    return 0
  if args.smoke:
    found = counts()
    print(json.dumps({"benchmark": "vqgan", **found}))
    return 0 if found["fine"] else 1
  about = turns.describe("vqgan", args)
  for name in args.cases.split(","):
    line = {"case": name, "load": round(os.getloadavg()[0], 2)}
    print(json.dumps({**about, **line, **measure(name, args)}), flush=True)
  return 0


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
  """Times one case: milliseconds, of torch too where it is installed."""
  side, batch, backward, limit = CASES[name]
  shape = autoencoder.Shape(channels=args.channels, norm_least=1)
  pixels = np.random.RandomState(0).uniform(-1, 1, (batch, side, side, 3))
  runs = {"jax": _jax_run(shape, pixels.astype(np.float32), backward)}
  if importlib.util.find_spec("torch"):
    peer = importlib.import_module("benchmarks.vqgan_torch")
    runs["torch"] = peer.make_run(
      shape, pixels.astype(np.float32), backward, args.threads
    )
  times = turns.interleave(runs, args.repeats)
  found: dict[str, Any] = {}
  for i, clock in enumerate(("wall", "cpu")):
    median = {who: statistics.median(x[i]) for who, x in times.items()}
    for who, seconds in median.items():
      found[f"{who}_{clock}_ms"] = round(1e3 * seconds, 1)
    if "torch" in median:
      found[f"{clock}_ratio"] = round(median["jax"] / median["torch"], 3)
  return {**found, "asked_for": limit}


def counts() -> dict[str, Any]:
  """Check operations, memory and compilations of a small step."""
  made = small_task()
  batch = {"image": np.zeros((2, 32, 32, 3), np.uint8)}
  key = jax.random.key(0)
  state = jax.jit(made.init)(key, made.measure([batch]))
  step = jax.jit(made.train_step)
  analytic = made.train_flops(2)
  traced = flops.count(made.train_step, state, batch, key)
  program = step.lower(state, batch, key).compile()
  leaner = jax.jit(small_task(remat=True).train_step)
  leaner = leaner.lower(state, batch, key).compile()
  with turns.count_compilations() as compilations:
    for _ in range(2):
      state, _ = step(state, batch, key)
  image = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
  features = jax.ShapeDtypeStruct((2, 32, 32, 32), jnp.float32)
  weight = flops.count(
    lambda *x: losses.adaptive_weight(x[0], (3, 3), *x[1:]),
    features,
    image,
    image,
  )
  found = {
    "analytic_gflops": analytic / 1e9,
    "traced_gflops": traced / 1e9,
    "compiled_gflops": program.cost_analysis()["flops"] / 1e9,
    "adaptive_weight_gflops": weight / 1e9,
    "last_layer_gflops": 2 * 2 * 32 * 32 * 9 * 32 * 3 / 1e9,
    **kept(made.model.shape, 32),
    "temporary_mib": turns.temporary_mib(program),
    "temporary_mib_with_remat": turns.temporary_mib(leaner),
    "compilations": compilations[0],
  }
  found["fine"] = bool(
    abs(traced / analytic - 1) < 0.1
    and found["compiled_gflops"] < 1.25 * found["analytic_gflops"]
    and weight <= 2.001e9 * found["last_layer_gflops"]
    and found["compilations"] <= 1
  )
  return found


def kept(shape: autoencoder.Shape, side: int) -> dict[str, float]:
  """Count the MiB of activations kept for the backward pass of an image.

  They are those of a traced float32 program, without the parameters and the
  image: the peak has one block's own beside them.
  """
  found = {}
  for name, remat in (("kept_mib", False), ("kept_mib_with_remat", True)):
    model = autoencoder.Autoencoder(
      dataclasses.replace(shape, remat=remat), quantizer.Nearest(1024, 256)
    )
    pixels = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), pixels)

    def backward(params, pixels, model=model):
      return jax.vjp(lambda p: model.apply(p, pixels, train=True)[0], params)[1]

    program = jax.make_jaxpr(backward)(params, pixels).jaxpr
    inputs = {id(x) for x in program.invars}
    held = {id(x): x.aval for x in program.outvars if id(x) not in inputs}
    total = sum(x.size * x.dtype.itemsize for x in held.values())
    found[name] = round(total / 2**20, 1)
  return found


def small_task(**shape: Any) -> task.VQGANTask:
  """Make a task that compiles quickly and still spends most in its layers."""
  sizes = autoencoder.Shape(
    channels=32,
    multipliers=(1, 1),
    num_blocks=1,
    attention=(),
    resolution=32,
    z_channels=16,
  )
  sizes = dataclasses.replace(sizes, **shape)
  return task.VQGANTask(
    model=autoencoder.Autoencoder(sizes, quantizer.Nearest(32, 16)),
    size=(32, 32),
    tx=optax.adam(1e-3),
    perceptual=0.0,
    adversary=adversary.Adversary(discriminator.Discriminator(8, 1)),
    adversary_tx=optax.adam(1e-3),
  )


def _jax_run(shape, pixels, backward):
  """Return a function that runs our autoencoder once."""
  model = autoencoder.Autoencoder(shape, quantizer.Nearest(1024, 256))
  pixels = jnp.asarray(pixels)
  params = jax.jit(model.init)(jax.random.key(0), pixels)

  def loss(params, pixels):
    image, _, _, quantized = model.apply(params, pixels)
    return jnp.mean(jnp.abs(image - pixels)) + quantized.loss

  function = jax.jit(jax.value_and_grad(loss) if backward else loss)
  return lambda: jax.block_until_ready(function(params, pixels))


if __name__ == "__main__":
  sys.exit(main())
