"""First stages that a second stage stands on: found, opened, made, written.

One is named as a run directory, as exported weights, or as those that ship. A
palette and plain pixels are tokenizers too: their config holds `task` and what
little else they need.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
import optax

from data import source as source_lib
from launch import errors, runs, trained
from launch.adapters import vqgan
from training import rundir, sharding, trees
from vqgan import frame as frame_lib
from vqgan import pixel_codes, tokenizer
from vqgan import task as task_lib
from weights import safetensors

KINDS = ("vqgan", "palette", "pixels")
DTYPES = ("float32", "bfloat16")  # that a network encodes in
# What decides the codes of a first stage, of its config.
_SECTIONS = ("task", "data", "model", "quantizer", "num_codes", "dtype")
_CODES = "quantizer/"  # of the arrays that codes have
_DATA = ("channels", "target", "num_labels", "label_shift")
# What it reads of `data` beside the target.
_READING = {
  "image": ("channels",),
  "segmentation": ("num_labels", "label_shift"),
  "depth": (),
}


@dataclasses.dataclass(frozen=True)
class FirstStage:
  """A tokenizer's config and its parameters, on the host.

  Attributes:
    config: with `task`, one of KINDS, those of the sections data, model and
      quantizer that decide the codes, and `dtype` if it is not float32.
    arrays: parameters by name.
    where: its name, for messages.
  """

  config: ml_collections.ConfigDict
  arrays: Mapping[str, np.ndarray]
  where: str

  @property
  def params(self) -> dict[str, Any]:
    """The parameters as the tokenizer takes them."""
    return trees.unflatten(self.arrays)

  def fingerprint(self) -> str:
    """Returns what tells its codes from those of others."""
    return make_tokenizer(self.config).fingerprint(self.params)


def load(name: str) -> FirstStage:
  """Opens a run, exported weights or those that ship.

  Raises:
    CommandError: there are none, or they are no first stage.
  """
  if Path(name).is_dir():
    _check_kind(runs.load_config(Path(name)).task, name)
    run = runs.open_run(Path(name))
    mesh = sharding.make_mesh({"data": 1}, jax.local_devices()[:1])
    params = run.restore(mesh).state.sampling_params["generator"]
    named = jax.device_get(trees.flatten(params))
    return FirstStage(reduced(run.config), named, name)
  config, named, _ = trained.read(name)
  _check_kind(config.task, name)
  inside = "params/generator" if config.task == "vqgan" else "params"
  return FirstStage(reduced(config), trees.select(named, inside), name)


def find_config(name: str) -> ml_collections.ConfigDict | None:
  """Returns the config of what `load` opens; None where there is nothing."""
  if (Path(name) / "config.json").is_file():
    config = runs.load_config(Path(name))
  else:
    config = trained.read_config(name)
  return None if config is None else reduced(config)


def save(stage: FirstStage, path: Path) -> None:
  """Writes PATH.safetensors and PATH.json, which `load` reads."""
  inside = "params/generator/" if stage.config.task == "vqgan" else "params/"
  named = {inside + name: array for name, array in stage.arrays.items()}
  path.parent.mkdir(parents=True, exist_ok=True)
  # Without tensors the file needs some text to be one.
  about = {"task": stage.config.task}
  safetensors.save(path.with_name(f"{path.name}.safetensors"), named, about)
  rundir.write_json(
    path.with_name(f"{path.name}.json"),
    {"config": stage.config.to_dict(), "step": 0},
  )


def reduced(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Returns what decides the codes, of a whole config of a first stage."""
  plain = json.loads(config.to_json_best_effort())
  kept = {name: plain[name] for name in _SECTIONS if name in plain}
  data = kept.get("data", {})
  kept["data"] = {name: data[name] for name in _DATA if name in data}
  return runs.locked(kept)


def dtype(stage: FirstStage) -> str:
  """Returns the precision that a first stage encodes in, one of DTYPES.

  That of one without a network is float32, whatever was once written.
  """
  network = stage.config.task == "vqgan"
  return stage.config.get("dtype", DTYPES[0]) if network else DTYPES[0]


def with_dtype(stage: FirstStage, name: str) -> FirstStage:
  """Returns a first stage that encodes in another precision: other codes.

  Args:
    stage: a first stage.
    name: one of DTYPES.

  Raises:
    CommandError: it is no network.
  """
  if stage.config.task != "vqgan":
    raise errors.CommandError(
      f"{stage.where} is a tokenizer of task {stage.config.task}, which has no "
      "network to compute in another precision: leave out --dtype"
    )
  config = stage.config.to_dict()
  config.pop("dtype", None)
  if name != DTYPES[0]:  # so that the codes of before keep their fingerprint
    config["dtype"] = name
  return dataclasses.replace(stage, config=runs.locked(config))


def keep_codes(stage: FirstStage, used: np.ndarray) -> FirstStage:
  """Returns a first stage with some of its codes (see `tokenizer.keep_codes`).

  Args:
    stage: with a codebook.
    used: int [u], ascending codes to keep.
  """
  coder: Any = make_tokenizer(stage.config)
  _, params = tokenizer.keep_codes(coder, stage.params, used)
  config = stage.config.to_dict()
  config["quantizer"]["num_codes"] = len(used)
  named = jax.device_get(trees.flatten(params))
  return FirstStage(runs.locked(config), named, stage.where)


def is_part(stage: FirstStage, whole: FirstStage) -> bool:
  """Says whether a first stage is another one without some of its codes."""
  rest = [
    {name: x for name, x in arrays.items() if not name.startswith(_CODES)}
    for arrays in (stage.arrays, whole.arrays)
  ]
  name = f"{_CODES}codebook"
  if rest[0].keys() != rest[1].keys() or name not in stage.arrays:
    return False
  codes = [{*map(bytes, x.arrays[name])} for x in (stage, whole)]
  alike = all(np.array_equal(x, rest[1][key]) for key, x in rest[0].items())
  return alike and codes[0] < codes[1]


def make_tokenizer(
  config: ml_collections.ConfigDict, size: tuple[int, int] | None = None
) -> tokenizer.Tokenizer:
  """Makes the tokenizer of a first stage's config.

  Args:
    config: see `FirstStage`.
    size: rows and columns of the images to encode; what does not depend on
      them needs none.

  Raises:
    ValueError: an unknown kind, or a size that the factor does not divide.
  """
  _check_kind(config.task, "tokenizer")
  if config.task == "pixels":
    return pixel_codes.Pixels(size or (1, 1))
  if config.task == "palette":
    return pixel_codes.Palette(config.num_codes, size or (1, 1))
  # Not that of training: codes on the disk are those that a step would find.
  whole = ml_collections.ConfigDict(config.to_dict())
  whole.train = {"dtype": config.get("dtype", DTYPES[0]), "remat": False}
  whole.data.update({"size": size or (1, 1), "zoom": 1.0, "flip": False})
  model = vqgan.make_model(whole)
  labels = config.data.target == "segmentation"
  return tokenizer.VQGAN(
    task_lib.VQGANTask(
      model=model,
      size=size or (model.shape.factor,) * 2,
      tx=optax.identity(),
      target="segmentation" if labels else "image",
      perceptual=0.0,
      bits=16 if config.data.target == "depth" else 8,
    )
  )


def make_frame(
  config: ml_collections.ConfigDict, data: ml_collections.ConfigDict
) -> frame_lib.Frame:
  """Makes the part of an image that is encoded.

  Args:
    config: of the first stage: what it reads.
    data: of the second stage: size, zoom, flip.
  """
  size, flip = tuple(data.size), data.flip
  if config.task == "palette":
    return frame_lib.Frame(size, data.zoom, flip)
  if config.task == "pixels":
    return frame_lib.Frame(size, data.zoom, flip, channels=1)
  reads = config.data
  return frame_lib.Frame(
    size=size,
    zoom=data.zoom,
    flip=flip,
    target=reads.target,
    channels=reads.channels,
    label_shift=reads.label_shift,
    num_labels=reads.num_labels,
  )


def reading(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the fields of `data` that say how a first stage reads an image."""
  if config.task != "vqgan":
    return {"target": "image"}
  data = config.data
  names = ("target", *_READING[data.target])
  return {name: data[name] for name in names if name in data}


def check_reading(
  stage: FirstStage, data: ml_collections.ConfigDict, source: source_lib.Source
) -> None:
  """Stops where a dataset is not what a first stage reads.

  Args:
    stage: the first stage.
    data: of the config that names the dataset.
    source: the dataset.

  Raises:
    CommandError: with both values, or what the dataset lacks.
  """
  reads = reading(stage.config)
  for name, mine in reads.items():
    if name in data and data[name] != mine:
      raise errors.CommandError(
        f"{stage.where} reads images with data.{name}={mine}, and the config "
        f"of these has {data[name]}: --config.data.{name}={mine} if they are "
        "fit for it, else another first stage"
      )
  target = reads["target"]
  pictures = source_lib.has_pictures(source)
  if not (pictures if target == "image" else target in source.fields):
    raise errors.CommandError(
      f"{source.name} has no {target}, which {stage.where} reads: choose "
      "another dataset, or another first stage"
    )


def blank_params(coder: tokenizer.Tokenizer) -> Any:
  """Returns the shapes of a tokenizer's parameters."""
  if isinstance(coder, pixel_codes.Pixels):
    return {}
  if isinstance(coder, pixel_codes.Palette):
    shape = (coder.num_codes, 3)
    return {"palette": jax.ShapeDtypeStruct(shape, np.float32)}
  task = getattr(coder, "task")  # noqa: B009
  blank = jax.ShapeDtypeStruct(
    (1, *task.size, task.model.shape.in_channels), np.float32
  )
  return jax.eval_shape(task.model.init, jax.random.key(0), blank)["params"]


def _check_kind(task, where):
  if task not in KINDS:
    raise errors.CommandError(
      f"{where} is of task {task}, which has no codes: it must be one of "
      f"{', '.join(KINDS)}"
    )
