"""How fast records become batches, stage by stage.

    python -m benchmarks.input --folder=DIR
    python -m benchmarks.input --tfds=scenes/64 --split=train

Stages, each on a fixed number of threads:
  read: records by index in the shuffled order, in Python;
  decode: `tf.io.decode_jpeg` alone on bytes in memory, the bound;
  robust: `data.images.decode`, which survives damaged files;
  resize: the same, then to a square of `--side` pixels;
  pipeline: `data.pipeline.train_batches`, everything included.
Without a source, draws `--count` pictures of `--side` pixels as JPEGs.

The stages take turns, so that a busy moment hits all of them. Prints one JSON
line a stage: the median of the rates, CPU time an image, and the share of the
rate of `decode`. A model's own preprocessing is measured by handing its
`encode` to `stage_pipeline` (see `benchmarks/dct_lists.py`).
"""

import argparse
import io
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from PIL import Image

from data import arrays, folder, images, order, pipeline
from data import source as source_lib
from data.scenes import render, scene

_BATCH = 32

# Advances by one batch of _BATCH images.
Stage = Iterator[object]


def main(argv: list[str] | None = None) -> int:
  """Run the benchmark; returns the exit status."""
  parser = argparse.ArgumentParser(prog="benchmarks.input")
  parser.add_argument("--folder", help="folder of images")
  parser.add_argument("--tfds", help="name of a prepared TFDS dataset")
  parser.add_argument("--split", default="train")
  parser.add_argument("--data_dir", default="", help="of TFDS")
  parser.add_argument("--count", type=int, default=48, help="pictures drawn")
  parser.add_argument("--side", type=int, default=256, help="pixels")
  parser.add_argument("--threads", type=int, default=2)
  parser.add_argument("--batches", type=int, default=24, help="in a run")
  parser.add_argument("--runs", type=int, default=7)
  args = parser.parse_args(argv)
  try:
    source = _source(args)
  except source_lib.DataError as error:
    print(error, file=sys.stderr)
    return 1
  for line in measure(_stages(source, args), args.batches, args.runs):
    line |= {"side": args.side, "threads": args.threads, "source": source.name}
    print(json.dumps(line | _environment()), flush=True)
  return 0


def measure(
  stages: dict[str, Stage], batches: int, runs: int
) -> list[dict[str, object]]:
  """Run the stages in turn; returns a line for each.

  With a stage named `decode`, the others get their share of its rate.
  """
  rates = {name: [] for name in stages}
  cpu = {name: [] for name in stages}
  for stage in stages.values():
    _run(stage, 4)
  for _ in range(runs):
    for name, stage in stages.items():
      seconds, cpu_seconds = _run(stage, batches)
      rates[name].append(batches * _BATCH / seconds)
      cpu[name].append(1e3 * cpu_seconds / (batches * _BATCH))
  lines = []
  for name in stages:
    rate = statistics.median(rates[name])
    line = {"benchmark": "input", "stage": name, "images_per_s": round(rate)}
    line["cpu_ms"] = round(statistics.median(cpu[name]), 4)
    if "decode" in stages:
      share = rate / statistics.median(rates["decode"])
      line["share_of_decode"] = round(share, 3)
    lines.append(line)
  return lines


def stage_read(source: source_lib.Source) -> Stage:
  """Read records by index, as the pipeline does."""
  position = 0
  while True:
    yield source.read(order.indices(0, position, _BATCH, len(source)))
    position += _BATCH


def stage_map(
  files: list[bytes], make: Callable[[tf.Tensor], tf.Tensor], threads: int
) -> Stage:
  """Map over bytes in memory."""
  options = tf.data.Options()
  options.autotune.enabled = False
  options.threading.private_threadpool_size = threads
  options.threading.max_intra_op_parallelism = 1
  dataset = tf.data.Dataset.from_tensor_slices(files).repeat()
  # One number of the image, so that batching copies nothing.
  dataset = dataset.map(
    lambda file: tf.reduce_sum(tf.cast(make(file)[:1, :1], tf.int32)),
    num_parallel_calls=threads,
  )
  dataset = dataset.batch(_BATCH, drop_remainder=True).prefetch(2)
  return iter(dataset.with_options(options))


def stage_pipeline(
  source: source_lib.Source, encode: pipeline.Encode, threads: int
) -> Stage:
  """Run the whole pipeline with an `encode`."""
  return pipeline.train_batches(
    source, encode, batch_size=_BATCH, seed=0, threads=threads
  )


def _stages(source, args):
  records = source.read(order.subset(256, len(source)))
  files = [r["image"] for r in records if isinstance(r["image"], bytes)]

  def square(record, seed):
    del seed
    image = images.resize(record["image"], args.side, args.side)
    return {"image": tf.ensure_shape(image, [args.side, args.side, 3])[None]}

  def resized(file):
    return images.resize(images.decode(file), args.side, args.side)

  return {
    "read": stage_read(source),
    "decode": stage_map(
      files, lambda file: tf.io.decode_jpeg(file, 3), args.threads
    ),
    "robust": stage_map(files, images.decode, args.threads),
    "resize": stage_map(files, resized, args.threads),
    "pipeline": stage_pipeline(source, square, args.threads),
  }


def _source(args):
  if args.folder:
    return folder.Folder(args.folder)
  if args.tfds:
    from data import tfds

    return tfds.Tfds(args.tfds, args.split, args.data_dir)
  files = []
  for i in range(args.count):
    file = io.BytesIO()
    picture = render.render(scene.draw(0, i), args.side).image
    # Grain, because smooth pictures decode faster than photographs.
    grain = np.random.default_rng(i).normal(0, 6, picture.shape)
    noisy = np.clip(picture + grain, 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(file, "JPEG", quality=90)
    files.append(file.getvalue())
  return arrays.Arrays(files, name=f"{args.count} drawn pictures")


def _run(stage, count):
  """Wall and CPU seconds of so many batches."""
  start, cpu = time.perf_counter(), _cpu_seconds()
  for _ in range(count):
    next(stage)
  return time.perf_counter() - start, _cpu_seconds() - cpu


def _cpu_seconds():
  usage = resource.getrusage(resource.RUSAGE_SELF)
  return usage.ru_utime + usage.ru_stime


def _environment():
  commit = subprocess.run(
    ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
  )
  return {
    "commit": commit.stdout.strip(),
    "cores": os.cpu_count(),
    "load": round(os.getloadavg()[0], 2),
    "machine": platform.processor() or platform.machine(),
    "tensorflow": tf.__version__,
  }


if __name__ == "__main__":
  sys.exit(main())
