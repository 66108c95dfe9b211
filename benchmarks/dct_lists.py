"""How fast JPEGs become DCT lists, against decoding alone and NumPy.

    python -m benchmarks.dct_lists --images=FOLDER

cuts a square out of every image of the folder (without one, draws pictures),
compresses it, and measures, in tf.data with a fixed number of threads:
  decode: `tf.io.decode_jpeg` alone, as the pipeline asks for it, the bound;
  numpy_function: decode, then `dctransformer.arrays` through Python;
  lists: decode, then `dctransformer.encode`;
  pipeline: `data.pipeline.train_batches`, reading and batching included.
The stages take turns, so that a busy moment hits all of them. Prints the
median rates and their ratios, and CPU time, which suffers less from whatever
else the machine does; `--out=FILE` appends one JSON line.
"""

import argparse
import io
import json
import os
import platform
import resource
import statistics
import sys
import time

import numpy as np
import tensorflow as tf
from PIL import Image

from benchmarks import codec as codec_benchmark
from data import arrays as data_arrays
from data import decoding, images, pipeline
from dctransformer import arrays, chunks, dct, encode

_BATCH = 32
_QUEUED = 6  # more batches than any stage holds ready


def main(argv: list[str] | None = None) -> int:
  """Run the benchmark; returns the exit status."""
  parser = argparse.ArgumentParser(prog="benchmarks.dct_lists")
  parser.add_argument("--images", help="folder of images")
  parser.add_argument("--side", type=int, default=256, help="pixels")
  parser.add_argument("--jpeg_quality", type=int, default=90, help="of files")
  parser.add_argument("--block", type=int, default=8)
  parser.add_argument("--quality", type=int, default=75, help="of the codec")
  parser.add_argument("--threads", type=int, default=2)
  parser.add_argument("--batches", type=int, default=24, help="in a run")
  parser.add_argument("--runs", type=int, default=7)
  parser.add_argument("--out", help="file to append a JSON line to")
  args = parser.parse_args(argv)
  files = _files(args)
  if not files:
    print(f"no image of {args.side} pixels in {args.images}", file=sys.stderr)
    return 1
  result = _measure(args, files)
  _print(result)
  if args.out:
    with open(args.out, "a") as out:
      out.write(json.dumps(result) + "\n")
  return 0


def _files(args):
  """JPEG bytes of squares cut from the middle of the images."""
  if args.images:
    paths = codec_benchmark.find(args.images)
    pictures = [decoding.to_rgb(path.read_bytes()) for path in paths]
  else:
    pictures = [_draw(args.side, seed) for seed in range(24)]
  files = []
  for picture in pictures:
    top, left = ((side - args.side) // 2 for side in picture.shape[:2])
    if min(top, left) < 0:
      continue
    square = picture[top : top + args.side, left : left + args.side]
    buffer = io.BytesIO()
    Image.fromarray(square).save(buffer, "JPEG", quality=args.jpeg_quality)
    files.append(buffer.getvalue())
  return files


def _draw(side, seed):
  """Noise with the spectrum of photographs, amplitude 1 / frequency."""
  generator = np.random.default_rng(seed)
  y, x = np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)
  amplitude = 1 / np.maximum(np.hypot(y, x), 1 / side)
  noise = np.fft.fft2(generator.normal(size=(3, side, side)))
  planes = np.fft.ifft2(noise * amplitude).real
  planes = 128 + 45 * planes / planes.std()
  gray = planes.mean(0, keepdims=True)
  pixels = np.clip(gray + 0.3 * (planes - gray), 0, 255)
  return np.moveaxis(pixels, 0, -1).astype(np.uint8)


def _measure(args, files):
  codec = dct.Codec(args.block, args.quality, *[args.side // args.block] * 2)
  lengths = [_length(codec, file) for file in files]
  longest = max(lengths) + 1
  plan = chunks.Plan(max_chunks=-(-longest // chunks.Plan().chunk_len))
  in_numpy = _in_numpy(codec, plan, args.side)
  in_tensorflow = _in_tensorflow(codec, plan, args.side)
  stages = {
    "decode": lambda: _dataset(args, files, _decode),
    "numpy_function": lambda: _dataset(args, files, in_numpy),
    "lists": lambda: _dataset(args, files, in_tensorflow),
    "pipeline": lambda: _pipeline(args, files, codec, plan),
  }
  rates = {name: [] for name in stages}
  cpu = {name: [] for name in stages}
  for _ in range(args.runs):
    for name, stage in stages.items():
      seconds, cpu_seconds = _run(stage, args.batches)
      rates[name].append(args.batches * _BATCH / seconds)
      cpu[name].append(1e3 * cpu_seconds / (args.batches * _BATCH))
  return {
    "benchmark": "dct_lists",
    **{key: value for key, value in vars(args).items() if key != "out"},
    "mean_elements": statistics.mean(lengths),
    "file_bytes": statistics.mean(len(file) for file in files),
    "images_per_s": {n: statistics.median(r) for n, r in rates.items()},
    "cpu_ms": {n: statistics.median(r) for n, r in cpu.items()},
    "cores": os.cpu_count(),
    "load": os.getloadavg()[0],
    "machine": platform.processor() or platform.machine(),
    "tensorflow": tf.__version__,
  }


def _length(codec, file):
  encoder = arrays.make_list_encode(codec, resize=None)
  image = decoding.to_rgb(file)
  row = encoder({"image": image, "label": 0, "example_id": 0}, None)
  return int(row["total"][0])


def _decode(file, seed):
  del seed
  return {"image": images.decode_or_fail(file)[None]}


def _in_tensorflow(codec, plan, side):
  encoder = encode.make_train_encode(codec, plan, resize=side)

  def make(file, seed):
    image = images.decode_or_fail(file)
    return encoder({"image": image, "label": 0, "example_id": 0}, seed)

  return make


def _in_numpy(codec, plan, side):
  encoder = arrays.make_train_encode(codec, plan, resize=side)
  names = ("channel", "position", "value", "length", "chunk")
  types = [tf.int16] * 3 + [tf.int32] * 2

  def call(image, seed):
    record = {"image": image, "label": 0, "example_id": 0}
    row = encoder(record, seed)
    return [row[name] for name in names]

  def make(file, seed):
    image = images.decode_or_fail(file)
    leaves = tf.numpy_function(call, [image, seed], types)
    return dict(zip(names, leaves))

  return make


def _dataset(args, files, make):
  """An endless iterator of batches."""
  options = tf.data.Options()
  options.autotune.enabled = False
  options.threading.private_threadpool_size = args.threads
  options.threading.max_intra_op_parallelism = 1
  seeds = tf.stack([tf.range(len(files))] * 2, axis=1)
  dataset = tf.data.Dataset.from_tensor_slices((files, seeds)).repeat()
  dataset = dataset.map(make, num_parallel_calls=args.threads)
  dataset = dataset.batch(_BATCH, drop_remainder=True).prefetch(2)
  return iter(dataset.with_options(options))


def _pipeline(args, files, codec, plan):
  encoder = encode.make_train_encode(codec, plan, resize=args.side)
  return pipeline.train_batches(
    data_arrays.Arrays(files),
    encoder,
    batch_size=_BATCH,
    seed=0,
    threads=args.threads,
  )


def _run(stage, count):
  """Wall and CPU seconds of so many batches of a fresh iterator.

  What waits in its queues at the beginning is used up before the clock starts,
  and it is gone before the next stage has its turn.
  """
  batches = stage()
  for _ in range(_QUEUED):
    next(batches)
  start, cpu = time.perf_counter(), _cpu_seconds()
  for _ in range(count):
    next(batches)
  return time.perf_counter() - start, _cpu_seconds() - cpu


def _cpu_seconds():
  usage = resource.getrusage(resource.RUSAGE_SELF)
  return usage.ru_utime + usage.ru_stime


def _print(result):
  rates, cpu = result["images_per_s"], result["cpu_ms"]
  print(
    f"{result['side']} px, B {result['block']}, q {result['quality']}, on"
    f" average {result['mean_elements']:.0f} elements from"
    f" {result['file_bytes'] / 1e3:.0f} kB; {result['threads']} threads, load"
    f" {result['load']:.1f}"
  )
  for name, rate in rates.items():
    print(f"{name:15s} {rate:7.0f} images/s {cpu[name]:6.2f} CPU ms an image")
  for name in ("numpy_function", "decode"):
    print(
      f"lists / {name}: {rates['lists'] / rates[name]:.2f} in rate,"
      f" {cpu[name] / cpu['lists']:.2f} in CPU time"
    )


if __name__ == "__main__":
  sys.exit(main())
