"""What second stages share: a frozen tokenizer, and batches of codes or images.

An adapter of a prior calls these functions. The config's `tokenizer` section
says which first stage: `weights`, and `like`, its config, for dry runs. What
is found goes into `measured`, so that a run stands on its own.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from data import codes as codes_lib
from data import source as source_lib
from launch import classes, errors, first_stages, runs
from training import trees
from vqgan import arrays, pixel_codes, tokenizer
from vqgan import frame as frame_lib

Measured = Mapping[str, np.ndarray]

_NAME = "tokenizer"
_CONFIG = "tokenizer_config"
_FINGERPRINT = "tokenizer_fingerprint"
_MOST_PIXELS = 2**20  # that a palette is fitted to


def measure(
  config: ml_collections.ConfigDict, batches: Iterable[Mapping] = ()
) -> dict[str, np.ndarray]:
  """Loads the tokenizer: its arrays, its config and its fingerprint.

  Args:
    config: of the second stage.
    batches: with `image` and `mask`, for a palette that no weights hold.

  Raises:
    CommandError: no weights, or codes that another tokenizer made.
  """
  stage = _find(config, batches)
  measured = _measured(stage, stage.fingerprint())
  if config.data.source == "codes":
    for split in {config.data.split, config.data.eval_split}:
      check(config, measured, codes_lib.Codes(config.data.dir, split))
  return measured


def assumed(config: ml_collections.ConfigDict) -> dict[str, np.ndarray]:
  """Returns what `measure` might: zeros, of the first stage's shapes."""
  like = _stage_config(config, {})
  shapes = first_stages.blank_params(first_stages.make_tokenizer(like))
  blank = {
    name: np.zeros(leaf.shape, leaf.dtype)
    for name, leaf in trees.flatten(shapes).items()
  }
  stage = first_stages.FirstStage(like, blank, "tokenizer.like")
  return _measured(stage, "0" * 16)


def make_tokenizer(
  config: ml_collections.ConfigDict, measured: Measured
) -> tokenizer.Tokenizer:
  """Makes the tokenizer of images of `data.size`."""
  return first_stages.make_tokenizer(
    _stage_config(config, measured), tuple(config.data.size)
  )


def frozen(measured: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the tokenizer's parameters, for `State.frozen["tokenizer"]`."""
  named = trees.select(measured, _NAME)
  return jax.tree.map(jnp.asarray, trees.unflatten(named))


def fingerprint(measured: Measured) -> str:
  """Returns that of the tokenizer of a run."""
  return bytes(np.asarray(measured[_FINGERPRINT])).decode()


def check(
  config: ml_collections.ConfigDict,
  measured: Measured,
  source: source_lib.Source,
) -> None:
  """Stops where codes are not those of the run's tokenizer and size.

  Raises:
    CommandError: in one line, with both fingerprints.
  """
  if not isinstance(source, codes_lib.Codes):
    return
  mine = fingerprint(measured)
  if source.tokenizer != mine:
    raise errors.CommandError(
      f"the codes in {source.name} are of tokenizer {source.tokenizer}, this "
      f"run is of {mine}: tokenize the images again with its first stage and "
      "its --dtype, or choose another --workdir",
      "python -m launch.tokenize --help",
    )
  grid = make_tokenizer(config, measured).grid
  if source.grid != grid:
    size = tuple(side * source.factor for side in source.grid)
    raise errors.CommandError(
      f"the codes in {source.name} are of images of {size}, data.size is "
      f"{tuple(config.data.size)}: set --config.data.size={size}"
    )


def remarks(config: ml_collections.ConfigDict) -> list[str]:
  """Returns a line for each field that has no effect as others are set.

  Whether codes are of mirror images too was decided as they were written.
  """
  found = classes.remarks(config)
  data = config.data
  if data.source != "codes" or not data.flip:
    return found
  try:
    source = codes_lib.Codes(data.dir, data.split)
  except source_lib.DataError:  # a dry run does without them
    return found
  if not source.flips:
    found.append(
      f"data.flip has no effect: the codes in {source.name} hold no mirror "
      "images; tokenize with --flips, or set --config.data.flip=False"
    )
  return found


def make_encode(
  config: ml_collections.ConfigDict,
  measured: Measured,
  use: str,
  fields: Sequence[str] = (),
  labels: frame_lib.Classes = frame_lib.ANY,
) -> Callable:
  """Makes the encode function of TensorFlow.

  Args:
    config: of the second stage.
    measured: see `measure`; may be empty.
    use: of `launch.tasks.USES`.
    fields: of `vqgan.frame.FIELDS`, that come along with the codes or rows.
    labels: which classes the label maps among them may hold.
  """
  from vqgan import encode

  stage = _stage_config(config, measured)
  if config.data.source == "codes":
    return encode.make_codes_encode(_grid(config, stage), fields, labels)
  frame = first_stages.make_frame(stage, config.data)
  if use == "train":
    return encode.make_train_encode(frame, fields, labels)
  return encode.make_eval_encode(frame, fields, labels)


def make_array_encode(
  config: ml_collections.ConfigDict,
  measured: Measured,
  use: str,
  fields: Sequence[str] = (),
  labels: frame_lib.Classes = frame_lib.ANY,
) -> Callable:
  """Makes the same of NumPy; for "image", of codes too, what they decode to."""
  stage = _stage_config(config, measured)
  if config.data.source == "codes":
    if use == "image":
      return _make_decode(config, measured)
    return arrays.make_codes_encode(_grid(config, stage), fields, labels)
  frame = first_stages.make_frame(stage, config.data)
  if use == "image":
    return arrays.make_picture_encode(frame)
  if use == "train":
    return arrays.make_train_encode(frame, fields, labels)
  return arrays.make_eval_encode(frame, fields, labels)


def rows_per_example(config: ml_collections.ConfigDict) -> int:
  """Returns 1: an image is a row."""
  del config
  return 1


def batch_spec(
  config: ml_collections.ConfigDict, measured: Measured, batch_size: int
) -> dict[str, jax.ShapeDtypeStruct]:
  """Describes a training batch without further fields."""
  coder = make_tokenizer(config, measured)
  spec = {coder.input: coder.spec(batch_size)}
  if config.data.source == "codes":
    shape = (batch_size, *coder.grid)
    spec = {"codes": jax.ShapeDtypeStruct(shape, jnp.uint16)}
  ids = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
  return {**spec, "label": ids, "example_id": ids}


def _find(config, batches) -> first_stages.FirstStage:
  """Opens the first stage that the config names."""
  name, like = _name(config), config.tokenizer.like
  beside = name and not config.tokenizer.weights
  if beside and first_stages.find_config(name) is None:
    raise errors.CommandError(
      f"{config.data.dir} holds no tokenizer beside its codes: bring "
      f"{Path(name).parent} back, or name the first stage that made them by "
      "--config.tokenizer.weights"
    )
  if name:
    return first_stages.load(name)
  if like.task == "pixels":
    return first_stages.FirstStage(first_stages.reduced(like), {}, "pixels")
  if like.task == "palette":
    return fit_palette(like.num_codes, batches, config.seed)
  raise errors.CommandError(
    "tokenizer.weights is empty: give the run directory of a first stage, "
    "exported weights, or the name of those that ship"
  )


def fit_palette(
  num_codes: int, batches: Iterable[Mapping], seed: int
) -> first_stages.FirstStage:
  """Finds a palette for the images of batches with `image` and `mask`."""
  pixels, count = [], 0
  for batch in batches:
    rows = np.asarray(batch["image"])[np.asarray(batch["mask"])]
    pixels.append(rows.reshape(-1, 3))
    count += len(pixels[-1])
  if not pixels:
    raise errors.CommandError("no images to fit a palette to")
  pixels = np.concatenate(pixels)[:: -(-count // _MOST_PIXELS)]
  params = pixel_codes.fit(pixels, num_codes, jax.random.key(seed))
  plain = {"task": "palette", "num_codes": num_codes}
  config = first_stages.reduced(ml_collections.ConfigDict(plain))
  return first_stages.FirstStage(config, params, "palette")


def _measured(stage, print_) -> dict[str, np.ndarray]:
  named = {f"{_NAME}/{name}": x for name, x in stage.arrays.items()}
  text = json.dumps(stage.config.to_dict(), sort_keys=True)
  return {**named, _CONFIG: _bytes(text), _FINGERPRINT: _bytes(print_)}


def _stage_config(config, measured) -> ml_collections.ConfigDict:
  """Returns the first stage's config: as measured, found, or expected."""
  if _CONFIG in measured:
    text = bytes(np.asarray(measured[_CONFIG])).decode()
    return runs.locked(json.loads(text))
  found = first_stages.find_config(_name(config)) if _name(config) else None
  return found or first_stages.reduced(config.tokenizer.like)


def _name(config) -> str:
  """Returns what to load: named, or beside the codes; "" for neither."""
  if config.data.source == "codes" and not config.tokenizer.weights:
    return str(codes_lib.tokenizer_path(config.data.dir))
  return config.tokenizer.weights


def _grid(config, stage):
  return first_stages.make_tokenizer(stage, tuple(config.data.size)).grid


def _make_decode(config, measured):
  """Makes the function that shows what a record's codes decode to."""
  if _CONFIG not in measured:
    measured = measure(config)
  coder, params = make_tokenizer(config, measured), frozen(measured)
  decode = jax.jit(coder.decode)

  def encode(record, seed):
    del seed
    image = np.asarray(decode(params, jnp.asarray(record["codes"][None])))
    return {"image": image, "size": np.int32([image.shape[1:3]])}

  return encode


def _bytes(text):
  return np.frombuffer(text.encode(), np.uint8).copy()
