"""How fast SUNDAE samples, and what memory its unrolls take, on CPU.

    python -m benchmarks.sundae
    python -m benchmarks.sundae --sides=16 --width=128 --steps=8 --repeats=3

For each side of the grid: seconds a sample of so many steps, compile time
apart, beside the same network in PyTorch where torch is installed (float32,
the reference's arithmetic in both, in turns, medians of wall and CPU); and the
temporary memory of a whole training step with 1, 2 and 3 unrolls, as XLA plans
it. From 1 to 2 it grows (by 52 MiB at side 16, whose parameters take 34): the
sum of the gradients is kept beside those of the unroll at hand, and one unroll
needs neither a sum nor a loop. From 2 on it stays. Prints a JSON line a side.
`--smoke` runs tiny shapes and checks counts alone: one compilation whatever the
settings, no growth from 2 to 3 unrolls.
"""

import argparse
import importlib
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import turns
from layers import transformer
from sundae import decode, model, task
from training import optimizer
from vqgan import pixel_codes

_HEAD = 64


def main(argv: Sequence[str] | None = None) -> int:
  """Run the benchmark; returns the exit status."""
  parser = argparse.ArgumentParser(prog="benchmarks.sundae")
  parser.add_argument("--sides", default="16,32", help="of the grid of codes")
  parser.add_argument("--num_codes", type=int, default=1024)
  parser.add_argument("--width", type=int, default=256)
  parser.add_argument("--heads", type=int, default=4)
  parser.add_argument("--layers", default="2,4,2")
  parser.add_argument(
    "--attention",
    choices=("xla", "pieces"),
    default="xla",
    help="ours; pieces are of the queries",
  )
  parser.add_argument("--steps", type=int, default=16)
  parser.add_argument("--batch", type=int, default=8)
  parser.add_argument("--repeats", type=int, default=5, help="median of these")
  turns.add_threads(parser)
  parser.add_argument("--smoke", action="store_true", help="tiny; only counts")
  args = parser.parse_args(argv)
  turns.use_threads(args.threads, parser)
  if args.smoke:
    args.sides, args.num_codes, args.width, args.heads = "4", 16, 64, 1
    args.layers, args.steps, args.batch, args.repeats = "0,1,0", 3, 2, 1
  about = turns.describe("sundae", args)
  for side in map(int, args.sides.split(",")):
    line = measure(side, args)
    print(json.dumps({**about, "side": side, **line}), flush=True)
    memory = line["train_temporary_mib"]
    grows = memory["3"] > 1.01 * memory["2"]
    if line["compilations_later"] or grows:
      print(f"counts are wrong at side {side}", file=sys.stderr)
      return 1
  return 0


def measure(side: int, args: argparse.Namespace) -> dict[str, Any]:
  """Time samples of one grid; returns what a line says."""
  net = make_model(side, args)
  codes = jax.ShapeDtypeStruct((args.batch, side, side), jnp.int32)
  params = _fill(jax.eval_shape(net.init, jax.random.key(0), codes))
  keys = jax.random.split(jax.random.key(0), args.batch)
  given = decode.nothing_given(jnp.zeros(args.batch, jnp.int32), net.grid)
  # Nobody stops early: as many steps for both.
  settings = decode.Settings.create(args.steps, min_steps=args.steps)
  sampler = jax.jit(decode.sample, static_argnums=0)
  began = time.perf_counter()
  program = sampler.lower(net, params, keys, given, settings).compile()
  compiled = time.perf_counter() - began
  runs = {
    "ours": lambda: jax.block_until_ready(
      program(params, keys, given, settings)
    )
  }
  if importlib.util.find_spec("torch") and not args.smoke:
    peer = importlib.import_module("benchmarks.sundae_torch")
    runs["torch"] = peer.make_run(net, args.steps, args.batch, args.threads)
  with turns.count_compilations() as later:
    program(
      params, keys, given, decode.Settings.create(2, (1.0, 0.5), confident=True)
    )
    times = turns.interleave(runs, args.repeats)
  line: dict[str, Any] = {
    "compile_s": round(compiled, 2),
    "compilations_later": later[0],
    "train_temporary_mib": {
      str(num): round(train_memory(net, args.batch, num), 3)
      for num in (1, 2, 3)
    },
    "parameters_mib": round(_mib(params), 3),
  }
  for i, clock in enumerate(("wall", "cpu")):
    medians = {name: statistics.median(times[name][i]) for name in runs}
    for name, seconds in medians.items():
      line[f"{name}_{clock}_ms_a_sample"] = round(1e3 * seconds / args.batch, 2)
    if "torch" in medians:
      ratio = medians["ours"] / medians["torch"]
      line[f"{clock}_ratio"] = round(ratio, 3)
  return line


def make_model(side: int, args: argparse.Namespace) -> model.Hourglass:
  """Make the reference network on a square grid."""
  return model.Hourglass(
    (side, side),
    args.num_codes,
    transformer.Shape(
      width=args.width,
      num_heads=args.heads,
      head_width=_HEAD,
      gate=None,
      qkv_bias=False,
      epsilon=1e-5,
      implementation=args.attention,
      remat=True,
    ),
    layers=tuple(int(x) for x in args.layers.split(",")),
    reference=True,
  )


def train_memory(net: model.Hourglass, batch: int, num: int) -> float:
  """Return the temporary memory of a step of `num` unrolls, in MiB.

  The whole step: gradient, AdamW and the donated state, as the loop compiles
  it.
  """
  tx = optimizer.make(
    name="adamw", peak=3e-5, schedule="constant", weight_decay=0.01
  )
  coder = pixel_codes.Palette(net.num_codes, tuple(net.grid))
  made = task.SundaeTask(net, coder, tx, unrolls=num, from_codes=True)
  key = jax.random.key(0)
  state = jax.eval_shape(lambda key: made.init(key, {}), key)
  step = jax.jit(made.train_step, donate_argnums=0)
  return turns.temporary_mib(
    step.lower(state, made.batch_spec(batch), key).compile()
  )


def _mib(params):
  return sum(leaf.nbytes for leaf in jax.tree.leaves(params)) / 2**20


def _fill(shapes):
  """Draw all parameters by NumPy: times do not depend on them."""
  rng = np.random.default_rng(0)
  draw = lambda leaf: jnp.asarray(rng.normal(0, 0.02, leaf.shape), leaf.dtype)
  return jax.tree.map(draw, shapes)


if __name__ == "__main__":
  sys.exit(main())
