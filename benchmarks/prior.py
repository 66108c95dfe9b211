"""How fast a prior is sampled, against running it again for every code.

    python -m benchmarks.prior
    python -m benchmarks.prior --window --grid=32,64 --batch=1 --repeats=1
    python -m benchmarks.prior --layers=48 --width=1536 --heads=24 \
        --num_codes=16384 --dtype=bfloat16 --batch=64

Cached: `vqgan.decode.sample`, one program for whole images; with --window
`vqgan.window.sample`, whose window slides over a larger grid. Recomputed: a
sampler of static shapes without a cache, which runs the whole trained grid for
every code and draws: `--passes` codes of it are run, and an image is charged as
many such codes as it has.

Prints a JSON line: codes/s by wall and by CPU time (of all threads, which
suffers less from whatever else the machine does), their ratio, the bytes that a
step of plain sampling has to read (parameters once, and half a full cache), and
where the accelerator's memory bandwidth is known the share of it that was
reached. `--smoke` runs a tiny shape and checks counts alone: ends with 1 unless
there was one compilation and every code is in range.
"""

import argparse
import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import roofline, turns
from vqgan import decode, prior, window


def main(argv: Sequence[str] | None = None) -> int:
  """Run the benchmark; returns the exit status."""
  parser = argparse.ArgumentParser(prog="benchmarks.prior")
  parser.add_argument("--batch", type=int, default=4, help="images at a time")
  parser.add_argument("--layers", type=int, default=8)
  parser.add_argument("--width", type=int, default=512)
  parser.add_argument("--heads", type=int, default=8)
  parser.add_argument("--num_codes", type=int, default=1024)
  parser.add_argument("--side", type=int, default=16, help="of trained codes")
  parser.add_argument("--dtype", default="float32", help="or bfloat16")
  parser.add_argument("--window", action="store_true", help="slide a window")
  parser.add_argument("--grid", default="32,64", help="codes, with --window")
  parser.add_argument("--passes", type=int, default=8, help="without a cache")
  parser.add_argument("--repeats", type=int, default=7, help="median of these")
  parser.add_argument("--smoke", action="store_true", help="tiny; only counts")
  args = parser.parse_args(argv)
  if args.smoke:
    args.batch, args.layers, args.width, args.heads = 2, 1, 16, 2
    args.num_codes, args.side, args.grid = 32, 4, "4,6"
    args.passes, args.repeats = 2, 2
  line = measure(args)
  print(json.dumps(turns.describe("prior", args) | line), flush=True)
  right = line["compilations"] == 1 and line["compilations_later"] == 0
  if not (right and line["in_range"]):
    print("counts are wrong", file=sys.stderr)
    return 1
  return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
  """Time cached samples and uncached passes in turn; one line."""
  model = make_model(args)
  grid = (args.side, args.side)
  if args.window:
    grid = tuple(int(side) for side in args.grid.split(","))
  params = random_params(model, args.side**2)
  keys = [jax.random.split(jax.random.key(i), args.batch) for i in range(2)]
  with turns.count_compilations() as count:
    began = time.perf_counter()
    cached = _compile(_cached(model, args.side, grid), params, keys)
    seconds = time.perf_counter() - began
  compilations = count[0]
  runs = {
    "cached": cached,
    "recomputed": _compile(
      _recomputed(model, args.side**2, args.passes), params, keys
    ),
  }
  with turns.count_compilations() as later:
    times = turns.interleave(runs, args.repeats)
  codes = np.asarray(cached())
  line = {
    "parameters": sum(x.size for x in jax.tree.leaves(params)),
    "compilations": compilations,
    "compilations_later": later[0],
    "compile_s": round(seconds, 2),
    "in_range": bool(
      codes.shape[1:] == grid
      and (codes >= 0).all()
      and (codes < args.num_codes).all()
    ),
  }
  num = args.batch * math.prod(grid)
  for i, clock in enumerate(("wall", "cpu")):
    whole = statistics.median(times["cached"][i])
    passes = statistics.median(times["recomputed"][i])
    rates = num / whole, args.batch * args.passes / passes
    line[f"image_{clock}_s"] = round(whole, 3)
    line[f"cached_{clock}_per_s"] = round(rates[0], 2)
    line[f"recomputed_{clock}_per_s"] = round(rates[1], 2)
    line[f"{clock}_ratio"] = round(rates[0] / rates[1], 2)
  if not args.window:
    line |= _bound(model, params, args, line["cached_wall_per_s"])
  return line


def make_model(args: argparse.Namespace) -> prior.Prior:
  """Make a prior without a condition."""
  return prior.Prior(
    num_codes=args.num_codes,
    length=args.side**2,
    layers=args.layers,
    width=args.width,
    heads=args.heads,
    dtype=jnp.dtype(args.dtype),
  )


def random_params(model: prior.Prior, length: int) -> Any:
  """Draw parameters that make all codes about equally likely."""
  codes = jnp.zeros((1, length), jnp.int32)
  shapes = jax.eval_shape(model.init, jax.random.key(0), codes)
  draw = lambda leaf: 0.02 * jax.random.normal(jax.random.key(0), leaf.shape)
  return decode.halve(
    jax.jit(lambda: jax.tree.map(draw, shapes))(), model.dtype
  )


def _cached(model, side, grid):
  """Return (params, keys) -> codes [b, h, w], by one cached program."""

  def run(params, keys):
    settings = decode.Settings.create()
    return window.sample(model, params, keys, grid, (side, side), settings)

  return run


def _recomputed(model, length, passes):
  """Return (params, keys) -> codes [b, l] of which `passes` are drawn."""

  def run(params, keys):
    settings = decode.Settings.create()
    reader = decode.Reader(model, params, None, None, guided=False)

    def draw(t, codes):
      logits = model.apply(params, codes)[:, t]
      keys_t = jax.vmap(jax.random.fold_in, (0, None))(keys, t)
      return codes.at[:, t].set(reader.draw(keys_t, logits, settings))

    codes = jnp.zeros((keys.shape[0], length), jnp.int32)
    return jax.lax.fori_loop(0, passes, draw, codes)

  return run


def _compile(run, params, keys) -> Callable[[], jax.Array]:
  """Compile a sampler; it is called with other keys in turn."""
  program = jax.jit(run).lower(params, keys[0]).compile()
  turn = itertools.cycle(keys)
  return lambda: jax.block_until_ready(program(params, next(turn)))


def _bound(model, params, args, rate):
  """Return the bytes that a step reads, and the share of the bandwidth."""
  item = jnp.dtype(args.dtype).itemsize
  # Of the table of codes only the rows of the batch are read.
  table = args.num_codes * args.width * item
  read = sum(x.nbytes for x in jax.tree.leaves(params)) - table
  read += args.batch * args.layers * args.side**2 * args.width * item
  kind = jax.devices()[0].device_kind
  known = [x for name, x in roofline.BANDWIDTH.items() if kind.startswith(name)]
  line = {"step_mbytes": round(read / 1e6, 2)}
  if known:
    line["bandwidth_share"] = round(rate / args.batch * read / known[0], 3)
  return line


if __name__ == "__main__":
  sys.exit(main())
