"""Convolutions of `layers.convolution` against XLA's own, side by side.

    python -m benchmarks.convolution
    python -m benchmarks.convolution --side=256 --channels=128 --batch=1

times forward and backward passes of a 3 x 3 convolution, and of one after
doubling the image, in turns. Prints one JSON line: medians in milliseconds of
wall time and their ratios to XLA's.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import repeat

from benchmarks import turns
from layers import convolution


def main(argv: list[str] | None = None) -> int:
  """Runs the benchmark; returns the exit status."""
  parser = argparse.ArgumentParser(
    prog="benchmarks.convolution", description=__doc__.splitlines()[0]
  )
  parser.add_argument("--side", type=int, default=64, help="pixels, squared")
  parser.add_argument("--channels", type=int, default=64)
  parser.add_argument("--batch", type=int, default=8)
  parser.add_argument("--repeats", type=int, default=5)
  args = parser.parse_args(argv)
  runs = {
    (name, way): run
    for name, function in _FUNCTIONS.items()
    for way, run in _passes(function, args).items()
  }
  times = turns.interleave(runs, args.repeats)
  found = turns.describe("convolution", args)
  for (name, way), (wall, _) in times.items():
    found.setdefault(name, {})[f"{way}_ms"] = round(
      1e3 * statistics.median(wall), 2
    )
  for ours, theirs in (("ours", "xla"), ("ours_doubled", "xla_doubled")):
    for way in ("forward", "backward"):
      ratio = found[ours][f"{way}_ms"] / found[theirs][f"{way}_ms"]
      found[ours][f"{way}_to_xla"] = round(ratio, 2)
  print(json.dumps(found))
  return 0


def _xla(x, kernel):
  return jax.lax.conv_general_dilated(
    x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


_FUNCTIONS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
  "ours": lambda x, kernel: convolution.convolve(x, kernel, (1, 1), "SAME"),
  "xla": _xla,
  "ours_doubled": lambda x, kernel: convolution.convolve_doubled(
    x, kernel, (1, 1), "SAME"
  ),
  "xla_doubled": lambda x, kernel: _xla(
    repeat(x, "b h w c -> b (h i) (w j) c", i=2, j=2), kernel
  ),
}


def _passes(function, args):
  """Return runs of the forward pass, and of the backward pass by itself."""
  keys = jax.random.split(jax.random.key(0), 2)
  width = args.channels
  x = jax.random.normal(keys[0], (args.batch, args.side, args.side, width))
  kernel = jax.random.normal(keys[1], (3, 3, width, width))
  forward = jax.jit(function)
  g = jnp.ones_like(forward(x, kernel))
  backward = jax.jit(lambda x, kernel, g: jax.vjp(function, x, kernel)[1](g))
  return {
    "forward": lambda: jax.block_until_ready(forward(x, kernel)),
    "backward": lambda: jax.block_until_ready(backward(x, kernel, g)),
  }


if __name__ == "__main__":
  sys.exit(main())
