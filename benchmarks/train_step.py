"""What a DCTransformer step costs as images grow and the chunk does not.

    python -m benchmarks.train_step
    python -m benchmarks.train_step --sides=64,128 --width=512 --blocks=4

Lists grow with the area of the image, and a step sees one chunk of them, so
the decoders should cost the same for every side; the encoder reads the whole
canvas and cannot (Nash et al. 2021, sec. 3.2). For each side, in turns, so that
a busy moment hits all of them:
  step: `train_step`, state donated;
  encoder: its share alone, from the list to the gradient of its parameters;
  rest: the difference: the decoders, the heads and the optimiser. It still
    grows where the paper's does: cross-attention reads every token of the
    encoder, and the position head has a class for every block.

Prints a JSON line a side (medians, ratios to the first side, peak temporary
memory as the compiler plans it, analytic FLOPs) and a table. CPU time, of all
threads, suffers less from whatever else the machine does. `--smoke` runs tiny
shapes and checks counts alone: ends with 1 unless each program was compiled
once and every element of the chunk entered the loss.
"""

import argparse
import functools
import json
import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import turns
from dctransformer import chunks, dct, model, sparse, task
from layers import transformer
from training import state as state_lib

_BLOCK = 8
# Elements a pixel: a photograph at JPEG quality 50, about.
_DENSITY = 1 / 8
_CLASSES = 10
_ENCODER = ("patch", "grid", "encoder", "encoder_norm")


def main(argv: Sequence[str] | None = None) -> int:
  """Run the benchmark; returns the exit status."""
  parser = argparse.ArgumentParser(prog="benchmarks.train_step")
  parser.add_argument("--sides", default="64,128,256,512", help="pixels")
  parser.add_argument("--batch", type=int, default=2, help="chunks a step")
  parser.add_argument("--chunk_len", type=int, default=128)
  parser.add_argument("--width", type=int, default=128)
  parser.add_argument("--blocks", type=int, default=1, help="of each stack")
  parser.add_argument("--repeats", type=int, default=7, help="median of these")
  parser.add_argument("--smoke", action="store_true", help="tiny; only counts")
  args = parser.parse_args(argv)
  if args.smoke:
    args.sides, args.batch, args.chunk_len = "16", 2, 8
    args.width, args.repeats = 16, 2
  sides = [int(side) for side in args.sides.split(",")]
  lines = measure(
    {
      side: make_task(side, args.chunk_len, args.width, args.blocks)
      for side in sides
    },
    args.batch,
    args.repeats,
  )
  about = turns.describe("train_step", args)
  for line in lines:
    print(json.dumps(about | line), flush=True)
  print(table(lines))
  wrong = [line for line in lines if not _counts_hold(line, args)]
  if wrong:
    print(f"counts are wrong at side {wrong[0]['side']}", file=sys.stderr)
  return int(bool(wrong))


def make_task(
  side: int, chunk_len: int, width: int, blocks: int
) -> task.DCTransformerTask:
  """Make a task for square images whose lists grow with their area.

  Args:
    side: of the images, in pixels.
    chunk_len: elements of a chunk; an eighth of it overlaps.
    width: of all four stacks, heads of at most 32.
    blocks: of each stack, one feed-forward each.
  """
  codec = dct.Codec(_BLOCK, 50, side // _BLOCK, side // _BLOCK)
  room = int(side**2 * _DENSITY)
  plan = chunks.Plan(
    chunk_len=chunk_len,
    overlap=chunk_len // 8,
    max_chunks=-(-room // chunk_len),
  )
  net = model.DCTransformer(
    codec,
    plan,
    transformer.Shape(width, num_heads=max(1, width // 32)),
    model.Layout(*[(1,) * blocks] * 4),
    num_classes=_CLASSES,
  )
  return task.DCTransformerTask(net, optax.adam(1e-4))


def make_batch(
  made: task.DCTransformerTask, batch_size: int
) -> dict[str, jax.Array]:
  """Draw sorted lists that fill their room, and chunks from all over them."""
  codec, plan = made.codec, made.plan
  generator = np.random.default_rng(0)
  m, b = plan.max_elements, batch_size
  # Luma alone: its channels are visited in the order of their ids.
  cells = codec.num_positions * codec.block**2
  cell = np.stack(
    [np.sort(generator.choice(cells, m, replace=False)) for _ in range(b)]
  )
  sign = generator.choice([-1, 1], (b, m))
  batch = {
    "channel": cell // codec.num_positions,
    "position": cell % codec.num_positions,
    "value": sign * generator.integers(1, 9, (b, m)),
    "length": np.full(b, m),
    "total": np.full(b, m),
    "chunk": np.arange(b) * plan.max_chunks // b,
    "label": np.arange(b) % _CLASSES,
    "example_id": np.arange(b),
    "clipped": np.zeros(b),
    "size": np.full((b, 2), codec.rows * codec.block),
    "blocks": np.full((b, 2), codec.rows),
  }
  spec = made.batch_spec(b)
  return {name: jnp.asarray(x, spec[name].dtype) for name, x in batch.items()}


def init(made: task.DCTransformerTask) -> state_lib.State:
  """Make a state of small random parameters: compiling `init` takes long."""
  measured = {"channel_std": np.ones(made.codec.num_channels, np.float32)}
  shapes = jax.eval_shape(lambda: made.init(jax.random.key(0), measured))
  generator = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: generator.normal(0, 0.02, x.shape).astype(np.float32),
    shapes.params,
  )
  create = lambda params: state_lib.State.create(
    params, made.tx, frozen=measured
  )
  return jax.jit(create)(params)


def measure(
  tasks: Mapping[int, task.DCTransformerTask], batch_size: int, repeats: int
) -> list[dict[str, Any]]:
  """Time step and encoder of every side in turn; returns a line for each."""
  runs, lines = {}, []
  for side, made in tasks.items():
    step, encoder, line = _compile(made, batch_size)
    runs[side, "step"], runs[side, "encoder"] = step, encoder
    lines.append({"side": side, **line})
  with turns.count_compilations() as later:
    times = turns.interleave(runs, repeats)
  for line in lines:
    side = line["side"]
    for i, clock in enumerate(("wall", "cpu")):
      step, encoder = (
        1e3 * statistics.median(times[side, name][i])
        for name in ("step", "encoder")
      )
      line[f"step_{clock}_ms"] = round(step, 3)
      line[f"encoder_{clock}_ms"] = round(encoder, 3)
      line[f"rest_{clock}_ms"] = round(step - encoder, 3)
    line["elements"] = runs[side, "step"].elements
    line["compilations_later"] = later[0]
  for line in lines:
    for name in ("step_wall_ms", "step_cpu_ms", "rest_cpu_ms", "temp_mib"):
      line[f"{name.rsplit('_', 1)[0]}_ratio"] = _ratio(line, lines[0], name)
    line["flops_ratio"] = _ratio(line, lines[0], "gflops")
  return lines


def table(lines: Sequence[Mapping[str, Any]]) -> str:
  """Format lines as a markdown table; (x) is the ratio to the first side."""
  rows = [
    "| side | list | tokens | step ms (x) | step CPU ms (x) | encoder CPU ms"
    " | rest CPU ms (x) | temporary MiB (x) | FLOPs (x) |",
    "|---|---|---|---|---|---|---|---|---|",
  ]
  rows += [
    f"| {line['side']} | {line['list']} | {line['tokens']}"
    f" | {line['step_wall_ms']:.1f} ({line['step_wall_ratio']:.2f})"
    f" | {line['step_cpu_ms']:.1f} ({line['step_cpu_ratio']:.2f})"
    f" | {line['encoder_cpu_ms']:.1f}"
    f" | {line['rest_cpu_ms']:.1f} ({line['rest_cpu_ratio']:.2f})"
    f" | {line['temp_mib']:.1f} ({line['temp_ratio']:.2f})"
    f" | {line['flops_ratio']:.2f} |"
    for line in lines
  ]
  return "\n".join(rows)


class _Step:
  """A training step on one batch, which remembers its state."""

  def __init__(self, program, state, batch, key):
    self._program, self._state = program, state
    self._batch, self._key = batch, key
    self.elements = 0

  def __call__(self):
    self._state, metrics = self._program(self._state, self._batch, self._key)
    jax.block_until_ready(self._state)
    self.elements = int(metrics["train/bits_per_element"].count)


def _compile(made, batch_size):
  """Compile both programs of a side -> (step, encoder, line)."""
  batch, state = make_batch(made, batch_size), init(made)
  key = jax.random.key(1)
  params = jax.tree.map(jnp.copy, state.params)  # the step donates its own
  scale = jnp.copy(state.frozen["channel_std"])
  with turns.count_compilations() as count:
    began = time.perf_counter()
    step = jax.jit(made.train_step, donate_argnums=0)
    step = step.lower(state, batch, key).compile()
    seconds = time.perf_counter() - began
  encoder = jax.jit(functools.partial(_encoder_gradient, made))
  encoder = encoder.lower(params, scale, batch).compile()
  line = {
    "list": made.plan.max_elements,
    "tokens": math.prod(made.model.token_grid),
    "compile_s": round(seconds, 2),
    "compilations": count[0],
    "temp_mib": round(turns.temporary_mib(step), 2),
    "encoder_temp_mib": round(turns.temporary_mib(encoder), 2),
    "gflops": round(made.train_flops(batch_size) / 1e9, 4),
  }
  run = lambda: jax.block_until_ready(encoder(params, scale, batch))
  return _Step(step, state, batch, key), run, line


def _encoder_gradient(made, params, scale, batch):
  """Encode the partial images of a batch, and go back."""
  elements = sparse.Elements(
    channel=batch["channel"].astype(jnp.int32),
    position=batch["position"].astype(jnp.int32),
    value=batch["value"].astype(jnp.int32),
    length=batch["length"],
    total=batch["total"],
  )
  start = batch["chunk"] * made.plan.chunk_len
  coefficients = sparse.to_coefficients(made.codec, elements, start)

  def scalar(params):
    apply = functools.partial(made.model.apply, params)
    context = apply(batch["label"], batch["blocks"], method="context")
    tokens = apply(coefficients, scale, context, True, method="encode")
    return jnp.sum(tokens**3)

  gradient = jax.grad(scalar)(params)["params"]
  return {name: gradient[name] for name in _ENCODER}


def _ratio(line, first, name):
  return round(line[name] / first[name], 3) if first[name] else float("nan")


def _counts_hold(line, args):
  """Whether each program was compiled once and each element counted."""
  compiled = line["compilations"] == 1 and line["compilations_later"] == 0
  return compiled and line["elements"] == args.batch * args.chunk_len


if __name__ == "__main__":
  sys.exit(main())
