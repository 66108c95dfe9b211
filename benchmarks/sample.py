"""How fast lists are sampled, against recomputing the chunk for every element.

    python -m benchmarks.sample
    python -m benchmarks.sample --batches=1,8,64 --width=512 --chunk_len=896

Cached: `dctransformer.decode.sample`, one program for whole lists; the biases
of a random model are set so that every list fills its room. Recomputed: what a
sampler without caches would pay, which is not run: the uncached forward of a
whole chunk is timed a few times, and a batch of elements is charged one such
pass. Two charges, with the encoder's pass for every element and without it
(forward less encoder), since a sampler without caches can still encode once a
chunk. All slots are recomputed, as one program of a static shape would; draws
and the masks of illegal moves are charged to cached sampling alone.

Prints a JSON line a batch size (medians of turns; compile time apart) and a
table. CPU time, of all threads, suffers less from whatever else the machine
does. `--smoke` runs tiny shapes and checks counts alone: ends with 1 unless
there was one compilation and every list is full.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import train_step, turns
from dctransformer import chunks, decode, sparse, task
from training import state as state_lib

# Of `sparse.Elements`, in its order.
_FIELDS = ("channel", "position", "value", "length", "total")
EXTRAPOLATED = "from forward passes; no uncached sampler was run"


def main(argv: Sequence[str] | None = None) -> int:
  """Run the benchmark; returns the exit status."""
  parser = argparse.ArgumentParser(prog="benchmarks.sample")
  parser.add_argument("--batches", default="1,8", help="samples at a time")
  parser.add_argument("--side", type=int, default=64, help="pixels")
  parser.add_argument("--chunk_len", type=int, default=128)
  parser.add_argument("--width", type=int, default=128)
  parser.add_argument("--blocks", type=int, default=1, help="of each stack")
  parser.add_argument("--repeats", type=int, default=7, help="median of these")
  parser.add_argument("--smoke", action="store_true", help="tiny; only counts")
  args = parser.parse_args(argv)
  if args.smoke:
    args.batches, args.side, args.chunk_len = "2", 16, 8
    args.width, args.repeats = 16, 2
  made = train_step.make_task(
    args.side, args.chunk_len, args.width, args.blocks
  )
  sizes = [int(size) for size in args.batches.split(",")]
  lines = measure(made, sizes, args.repeats)
  about = turns.describe("sample", args)
  for line in lines:
    print(json.dumps(about | line), flush=True)
  print(table(lines))
  room = made.plan.max_elements
  for line in lines:
    if not (
      line["compilations"] == 1
      and line["compilations_later"] == 0
      and line["elements"] == line["batch"] * room
    ):
      print(f"counts are wrong at batch {line['batch']}", file=sys.stderr)
      return 1
  return 0


def measure(
  made: task.DCTransformerTask, sizes: Sequence[int], repeats: int
) -> list[dict[str, Any]]:
  """Time cached samples and uncached passes in turn; a line a batch size."""
  state = fill_lists(made, train_step.init(made))
  runs, lines = {}, []
  for size in sizes:
    sampler, line = _compile_sampler(made, state, size)
    runs[size, "cached"] = sampler
    forward, encoder = _passes(made, state, size)
    runs[size, "forward"], runs[size, "encoder"] = forward, encoder
    lines.append({"batch": size, "list": made.plan.max_elements, **line})
  with turns.count_compilations() as later:
    times = turns.interleave(runs, repeats)
  for line in lines:
    size = line["batch"]
    line["elements"] = elements = runs[size, "cached"].elements
    line["compilations_later"] = later[0]
    line["recomputed"] = EXTRAPOLATED
    for i, clock in enumerate(("wall", "cpu")):
      cached, forward, encoder = (
        statistics.median(times[size, name][i])
        for name in ("cached", "forward", "encoder")
      )
      rates = {
        "cached": elements / cached,
        "recomputed": size / forward,
        "recomputed_decoders": size / (forward - encoder),
      }
      for name, rate in rates.items():
        line[f"{name}_{clock}_per_s"] = round(rate, 2)
        if name != "cached":
          ratio = rates["cached"] / rate
          line[f"{name}_{clock}_ratio"] = round(ratio, 2)
      line[f"forward_{clock}_ms"] = round(1e3 * forward, 3)
      line[f"encoder_{clock}_ms"] = round(1e3 * encoder, 3)
  return lines


def fill_lists(
  made: task.DCTransformerTask, state: state_lib.State
) -> state_lib.State:
  """Bias a random model to go through the order slowly, and not to stop."""
  codec = made.codec
  rank = jnp.asarray(sparse.visit_rank(codec), jnp.float32)
  params = dict(state.params["params"])
  for name, bias in (
    ("channel_head", jnp.append(-2.0 * rank, -1e4)),
    ("position_head", -0.5 * jnp.arange(codec.num_positions)),
  ):
    params[name] = {**params[name], "bias": bias.astype(jnp.float32)}
  return state.replace(params={"params": params})


def table(lines: Sequence[dict[str, Any]]) -> str:
  """Format lines as a markdown table; (x) is cached over recomputed."""
  rows = [
    "| batch | cached elements/s | recomputed* (x) | decoders alone* (x)"
    " | same by CPU time | compile s |",
    "|---|---|---|---|---|---|",
  ]
  rows += [
    f"| {line['batch']} | {line['cached_wall_per_s']:.0f}"
    f" | {line['recomputed_wall_per_s']:.1f}"
    f" ({line['recomputed_wall_ratio']:.1f})"
    f" | {line['recomputed_decoders_wall_per_s']:.1f}"
    f" ({line['recomputed_decoders_wall_ratio']:.1f})"
    f" | {line['recomputed_cpu_ratio']:.1f},"
    f" {line['recomputed_decoders_cpu_ratio']:.1f}"
    f" | {line['compile_s']:.1f} |"
    for line in lines
  ]
  return "\n".join([*rows, f"\n\\* elements/s, extrapolated {EXTRAPOLATED}."])


class _Sampler:
  """Cached sampling, other keys every time; remembers what came out."""

  def __init__(self, program, state, condition, size):
    self._program, self._state = program, state
    self._condition, self._size = condition, size
    self._seed = 0
    self.elements = 0

  def __call__(self):
    self._seed += 1
    tokens = self._program(
      self._state,
      jax.random.split(jax.random.key(self._seed), self._size),
      self._condition,
      decode.Settings.create(),
    ).tokens
    self.elements = int(np.asarray(tokens.length).sum())


def _compile_sampler(made, state, size):
  """Compile sampling of a batch -> (sampler, line)."""
  blocks = (made.codec.rows, made.codec.cols)
  condition = decode.Condition(
    label=jnp.zeros((size,), jnp.int32),
    blocks=jnp.tile(jnp.asarray(blocks, jnp.int32), (size, 1)),
    prefix=decode.empty_prefix(size, made.plan.max_elements),
  )
  keys = jax.random.split(jax.random.key(0), size)
  with turns.count_compilations() as count:
    began = time.perf_counter()
    program = jax.jit(made.sample)
    program = program.lower(
      state, keys, condition, decode.Settings.create()
    ).compile()
    seconds = time.perf_counter() - began
  line = {"compilations": count[0], "compile_s": round(seconds, 2)}
  return _Sampler(program, state, condition, size), line


def _passes(made, state, size):
  """Compile the uncached forward of a chunk, and its encoder alone."""
  batch = train_step.make_batch(made, size)
  elements = sparse.Elements(
    *(batch[name].astype(jnp.int32) for name in _FIELDS),
  )
  net, scale = made.model, state.frozen["channel_std"]

  def inputs(elements):
    chunk = chunks.slice_chunk(net.codec, net.plan, elements, batch["chunk"])
    return chunk, sparse.to_coefficients(net.codec, elements, chunk.start)

  def forward(params, elements):
    label, blocks = batch["label"], batch["blocks"]
    return net.apply(params, *inputs(elements), scale, label, blocks)

  def encoder(params, elements):
    context = net.apply(
      params, batch["label"], batch["blocks"], method="context"
    )
    _, coefficients = inputs(elements)
    return net.apply(params, coefficients, scale, context, method="encode")

  def run(program):
    program = jax.jit(program).lower(state.params, elements).compile()
    return lambda: jax.block_until_ready(program(state.params, elements))

  return run(forward), run(encoder)


if __name__ == "__main__":
  sys.exit(main())
