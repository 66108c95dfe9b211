"""Turns a dataset into the codes of a first stage, on the disk.

    python -m launch.tokenize --workdir=runs/vqgan --out=codes
    python -m launch.tokenize --weights=vqgan_scenes --out=codes --flips
    python -m launch.tokenize --workdir=runs/vqgan --out=codes \
        --config.data.source=folder --config.data.dir=PICTURES
    python -m launch.tokenize --palette=512 --config=configs/NAME.py --out=codes

Images are those of the config's `data` section (by default of the first stage's
own), cut in the middle to data.size; `data.split` becomes OUT/train and
`data.eval_split` OUT/validation. How an image is read, its channels or its
labels, the first stage says: a config that says otherwise is refused, as is an
override that nothing reads. Labels, label maps, depth maps and boxes are cut
alike, and where the crop lies is kept. The tokenizer is put beside the codes;
`data.source=codes` reads them. With --used_only codes that no image of
`data.split` has are dropped and the others numbered anew, in the tokenizer too:
a prior has no logits for what never occurs; a validation image that had one of
them takes the nearest that is left. A job that was stopped goes on with the
same command and ends with the same files, whatever the number of devices and
processes. Codes are made in float32 unless --dtype says otherwise.
"""

import dataclasses
import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from data import codes as codes_lib
from data import source as source_lib
from launch import (
  code_columns,
  datasets,
  errors,
  first_stages,
  setup,
  tokenize_flags,
)
from launch.adapters import codes as codes_adapter
from training import progress, rundir, sharding
from vqgan import arrays

_JOB = "job.json"
_MOST_CODES = 2**16


@dataclasses.dataclass(frozen=True)
class Job:
  """What is to be encoded, and how.

  Attributes:
    stage: the first stage.
    config: its `data` section says which images.
    out: the folder of all splits.
    flips: whether mirror images are encoded too.
    shard: images of a shard.
    batch: images at a time, a device.
  """

  stage: first_stages.FirstStage
  config: ml_collections.ConfigDict
  out: Path
  flips: bool = False
  shard: int = 4096
  batch: int = 16

  @property
  def tokenizer(self):
    """The tokenizer of images of data.size."""
    size = tuple(self.config.data.size)
    return first_stages.make_tokenizer(self.stage.config, size)


@errors.command
def main(argv: list[str]) -> int:
  """Runs the command."""
  args, overrides = tokenize_flags.parse(argv, __doc__)
  config = tokenize_flags.config(args, overrides)
  setup.start(args.platform)
  setup.log_to_terminal()
  stage = _first_stage(args, config)
  job = Job(stage, config, args.out, args.flips, args.shard, args.batch)
  for split in args.splits:
    count = tokenize(job, split, stream=sys.stderr)
    print(f"{count:,} examples in {args.out / split}")
  print(f"tokenizer {stage.fingerprint()} in {args.out / codes_lib.TOKENIZER}")
  return 0


def tokenize(job: Job, split: str, stream: Any = None) -> int:
  """Encodes a split, going on with the shards that are there.

  Args:
    job: what to do.
    split: "train" or "validation".
    stream: shows progress there; None is silent.

  Returns:
    The number of examples, mirror images counted.

  Raises:
    CommandError: `out` holds something else, or the images do not fit it or
      the first stage.
  """
  name = job.config.data[tokenize_flags.SPLITS[split]]
  source = datasets.open_source(job.config, name)
  first_stages.check_reading(job.stage, job.config.data, source)
  folder = job.out / split
  described = _describe(job, source)
  primary = jax.process_index() == 0
  if primary:
    _begin(job, folder, described)
  sharding.meet("begun")
  numbers = range(-(-len(source) // job.shard))
  mine = numbers[jax.process_index() :: jax.process_count()]
  todo = [i for i in mine if codes_lib.shard_size(folder, i) is None]
  if todo:
    total = sum(len(_indices(job, source, i)) for i in todo)
    shown = progress.Progress(
      total, stream if primary else None, metric="images"
    )
    try:
      _encode_shards(job, source, folder, todo, shown)
    finally:
      shown.close()
  sharding.meet("encoded")
  if primary:
    _finish(folder, described, len(numbers))
  sharding.meet("finished")
  return len(codes_lib.Codes(str(job.out), split))


def _encode_shards(job, source, folder, numbers, shown):
  """Encodes whole shards on the devices of this process."""
  read = job.tokenizer.input
  encoded = _encoded(job, source, numbers, shown)
  for number, batches in itertools.groupby(encoded, lambda x: x[0]):
    parts = []
    for _, *part in batches:
      parts.append(part)
      if len(parts) > 1:  # the one before, while this one is encoded
        parts[-2] = code_columns.of_batch(*parts[-2], read, job.flips)
    parts[-1] = code_columns.of_batch(*parts[-1], read, job.flips)
    codes_lib.write_shard(folder, number, code_columns.joined(parts))


def _encoded(job, source, numbers, shown) -> Iterator[tuple[int, Mapping, Any]]:
  """Yields the number of a shard, a batch of it and its codes."""
  mesh = sharding.make_mesh({"data": -1}, jax.local_devices())
  place = sharding.batch_sharding(mesh)
  coder = job.tokenizer
  params = jax.device_put(job.stage.params, sharding.replicated(mesh))
  encode = jax.jit(_encoder(coder, job.flips), out_shardings=place)
  done = 0
  for number in numbers:
    for batch in _batches(job, source, number, mesh.size):
      rows = jax.device_put(batch[coder.input], place)
      yield number, batch, encode(params, rows)
      done += int(batch["mask"].sum())
      shown.update(done, done)


def _count(job: Job, stream: Any) -> np.ndarray:
  """Counts the codes of `data.split` on all processes, int64 [v]."""
  source = datasets.open_source(job.config, job.config.data.split)
  first_stages.check_reading(job.stage, job.config.data, source)
  _check_codes(job)
  counts = np.zeros(job.tokenizer.num_codes, np.int64)
  shards = range(-(-len(source) // job.shard))
  mine = shards[jax.process_index() :: jax.process_count()]
  total = sum(len(_indices(job, source, i)) for i in mine)
  shown = progress.Progress(total, stream, metric="images")
  try:
    for _, batch, found in _encoded(job, source, mine, shown):
      codes = np.asarray(found)[np.asarray(batch["mask"])]
      counts += np.bincount(codes.ravel(), minlength=len(counts))
  finally:
    shown.close()
  if jax.process_count() > 1:
    counts = multihost_utils.process_allgather(counts).sum(0)
  return counts


def _encoder(coder, flips):
  """Returns (params, rows) -> codes [b, 1 or 2, h, w], mirror images second."""

  def encode(params, rows):
    found = [coder.encode(params, rows)]
    if flips:
      found.append(coder.encode(params, rows[:, :, ::-1]))
    return jnp.stack(found, 1).astype(jnp.uint16)

  return encode


def _batches(job, source, number, num_devices) -> Iterator[Mapping]:
  """Yields the batches of a shard on this process."""
  frame = first_stages.make_frame(job.stage.config, job.config.data)
  fields = _fields(job, source)
  if datasets.in_numpy(job.config):
    encode = arrays.make_eval_encode(frame, fields)
  else:
    from vqgan import encode as tensors

    encode = tensors.make_eval_encode(frame, fields)
  return datasets.pipeline(job.config).eval_batches(
    source,
    encode,
    batch_size=job.batch * num_devices,
    chosen=_indices(job, source, number),
  )


def _indices(job, source, number):
  start = number * job.shard
  return np.arange(start, min(start + job.shard, len(source)))


def _fields(job, source) -> tuple[str, ...]:
  """Returns what comes along: all that there is, but the input."""
  have = [
    name
    for name in ("segmentation", "depth", "keypoints")
    if name in source.fields
  ]
  if job.flips and "keypoints" in have:
    raise errors.CommandError(
      "keypoints tell left from right: tokenize without --flips"
    )
  if "boxes" in source.fields and "box_labels" in source.fields:
    have += [name for name in ("boxes", "box_flags") if name in source.fields]
  return (*(name for name in have if name != job.tokenizer.input), "crop")


def _describe(job, source: source_lib.Source) -> dict[str, Any]:
  """Returns all that decides the codes: codes.json, but for the shards."""
  coder = job.tokenizer
  _check_codes(job)
  fields = ["codes", *_fields(job, source)]
  if "boxes" in fields:
    fields.append("box_labels")
  return {
    "version": codes_lib.VERSION,
    "tokenizer": job.stage.fingerprint(),
    "num_codes": coder.num_codes,
    "grid": list(coder.grid),
    "factor": coder.factor,
    "zoom": job.config.data.zoom,
    "flips": job.flips,
    "fields": fields,
    "class_names": list(source.class_names),
    "source": source.name,
    "source_fingerprint": source.fingerprint,
    "shard_images": job.shard,
  }


def _check_codes(job):
  num_codes = job.tokenizer.num_codes
  if num_codes > _MOST_CODES:
    raise errors.CommandError(
      f"{num_codes} codes do not fit the 16 bits of a code on the disk: "
      f"tokenize on the device (data.source={job.config.data.source})"
    )


def _begin(job, folder, described):
  """Puts tokenizer and job.json there, or compares with those there."""
  path = job.out / codes_lib.TOKENIZER
  if path.with_name(f"{path.name}.json").is_file():
    there = first_stages.load(str(path)).fingerprint()
    if there != described["tokenizer"]:
      _refuse_others(job.out, there, described["tokenizer"])
  else:
    first_stages.save(job.stage, path)
  folder.mkdir(parents=True, exist_ok=True)
  codes_lib.remove_partial(folder)
  file = folder / _JOB
  if not file.is_file():
    if any(folder.iterdir()):
      raise errors.CommandError(
        f"{folder} holds something else: choose another --out"
      )
    rundir.write_json(file, described)
    return
  before = json.loads(file.read_text("utf-8"))
  differ = [name for name in described if before.get(name) != described[name]]
  if differ:
    name = differ[0]
    raise errors.CommandError(
      f"{folder} holds codes of another job ({name} {before.get(name)}, now "
      f"{described[name]}): choose another --out, or remove the folder"
    )


def _finish(folder, described, num_shards):
  """Writes codes.json, which says that the split is whole."""
  sizes = [codes_lib.shard_size(folder, i) for i in range(num_shards)]
  if None in sizes:
    raise errors.CommandError(
      f"{folder} lacks {codes_lib.shard_name(sizes.index(None))}: --out must "
      "be a folder that all processes share"
    )
  rundir.write_json(
    folder / codes_lib.DESCRIPTION, {**described, "shards": sizes}
  )


def _first_stage(args, config) -> first_stages.FirstStage:
  if args.workdir or args.weights:
    whole = first_stages.load(str(args.workdir or args.weights))
    if args.dtype:
      whole = first_stages.with_dtype(whole, args.dtype)
    _check_dtype(whole, args)
    return _used_only(whole, args, config) if args.used_only else whole
  if args.pixels:
    plain = ml_collections.ConfigDict({"task": "pixels"})
    return first_stages.FirstStage(first_stages.reduced(plain), {}, "pixels")
  path = args.out / codes_lib.TOKENIZER
  sharding.meet("palette")
  if path.with_name(f"{path.name}.json").is_file():
    found = first_stages.load(str(path))
    if found.config.get("num_codes") == args.palette:
      return found
  source = datasets.open_source(config, config.data.split)
  whole = ml_collections.ConfigDict(
    {"task": "palette", "num_codes": args.palette}
  )
  stage = first_stages.FirstStage(first_stages.reduced(whole), {}, "palette")
  first_stages.check_reading(stage, config.data, source)
  job = Job(stage, config, args.out, shard=config.data.num_measured)
  return codes_adapter.fit_palette(
    args.palette, _batches(job, source, 0, 1), config.seed
  )


def _check_dtype(stage, args):
  """Stops where codes of another precision are, before anything is encoded.

  Of the same tokenizer: whether `out` is of another one, `_begin` asks.
  """
  path = args.out / codes_lib.TOKENIZER
  sharding.meet("dtype")
  if not path.with_name(f"{path.name}.json").is_file():
    return
  found = first_stages.load(str(path))
  there, mine = map(first_stages.dtype, (found, stage))
  if there == mine:
    return
  if found.config.task == stage.config.task:  # networks, both
    meant = first_stages.with_dtype(stage, there)
    same = found.fingerprint() == meant.fingerprint()
    if same or (args.used_only and first_stages.is_part(found, meant)):
      raise errors.CommandError(
        f"{args.out} holds codes made in {there}, not in {mine}: go on with "
        f"--dtype={there}, or choose another --out"
      )
  _refuse_others(args.out, found.fingerprint(), stage.fingerprint())


def _refuse_others(out, there, mine):
  raise errors.CommandError(
    f"{out} holds codes of tokenizer {there}, not of {mine}: choose another "
    "--out"
  )


def _used_only(whole, args, config) -> first_stages.FirstStage:
  """Cuts a first stage, or returns what was cut of it before."""
  path = args.out / codes_lib.TOKENIZER
  sharding.meet("used")
  if path.with_name(f"{path.name}.json").is_file():
    found = first_stages.load(str(path))
    if first_stages.is_part(found, whole):
      return found
  kinds = whole.config.task, whole.config.get("quantizer", {}).get("name")
  if kinds[0] != "vqgan" or kinds[1] == "finite":
    raise errors.CommandError(
      f"{args.workdir or args.weights} has no codebook to cut: leave out "
      "--used_only"
    )
  job = Job(whole, config, args.out, args.flips, args.shard, args.batch)
  stream = None if jax.process_index() else sys.stderr
  used = np.flatnonzero(_count(job, stream))
  print(f"{len(used):,} of {job.tokenizer.num_codes:,} codes are used")
  return first_stages.keep_codes(whole, used)


if __name__ == "__main__":
  sys.exit(main())
