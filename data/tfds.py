"""Any TFDS dataset as a source: prepared on disk, read by index.

Datasets prepared as array_record are read as they are; for those that exist as
TFRecord an index is made (`data/tfrecord.py`). Nothing is downloaded here:
`python -m launch.prepare` does that.
"""

import contextlib
import fcntl
import hashlib
import itertools
import logging
import os
import pathlib
import sys
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow.core.example import example_pb2

from data import folder, source, tfrecord

# What TFDS raises where it cannot download or read; ImportError for a package
# that one builder alone needs.
_FAILURES = (AssertionError, ImportError, OSError, RuntimeError, ValueError)

# Which of source.BOX_FLAGS a feature of an object tells; 1 is yes (Open Images
# has -1 for unknown).
_FLAGS = {
  "is_group_of": "group",
  "is_crowd": "group",
  "is_occluded": "occluded",
  "is_depiction": "depiction",
  "is_inside": "inside",
}

_log = logging.getLogger(__name__)


class Tfds:
  """A split of a TFDS dataset; a `source.Source`.

  Args:
    name: with its config, for example `lsun/bedroom`. `scenes/SIDE` is
      rendered on first use.
    split: in TFDS's notation, for example `train` or `train[:1%]`.
    data_dir: where prepared datasets are; TFDS's own default where empty.

  The feature `image` must be an image; `label`, `segmentation`, `depth` and
  `objects/bbox` (or `bobjects/bbox`) are used where they exist. Raises
  DataError where the dataset is absent, with what to download and the command
  to run.
  """

  def __init__(self, name: str, split: str, data_dir: str = ""):
    builder = make_builder(name, data_dir)
    if not builder.is_prepared():
      if not name.startswith("scenes"):
        raise source.DataError(_how_to_prepare(builder, name, data_dir))
      _keep_out_of_pictures(name, data_dir)
      prepare(name, data_dir)
      builder = make_builder(name, data_dir)
    info = builder.info
    self.name = f"{name} {split}"
    self._features = dict(info.features.items())
    if not isinstance(self._features.get("image"), tfds.features.Image):
      raise source.DataError(
        f"{name} has no feature `image`; it has {sorted(self._features)}"
      )
    spans = _spans(builder, name, split)
    formats = tfds.core.FileFormat
    if info.file_format == formats.ARRAY_RECORD:
      self._records = builder.as_data_source(split=split).data_source
    elif info.file_format == formats.TFRECORD:
      index_dir = os.path.join(builder.data_dir, ".tessera")
      self._records = tfrecord.Records(spans, index_dir)
    else:
      raise source.DataError(
        f"{builder.data_dir} is {info.file_format}; remove it and prepare it "
        "again with `python -m launch.prepare`"
      )
    self.class_names = _class_names(self._features.get("label"))
    self.num_classes = len(self.class_names)
    self._objects = _objects(self._features)
    self.fields = _fields(self._features, self._objects)
    described = (info.full_name, [(os.path.basename(p), *s) for p, *s in spans])
    digest = hashlib.sha256(repr(described).encode())
    self.fingerprint = digest.hexdigest()[:16]

  def __len__(self) -> int:
    return len(self._records)

  def read(self, indices: np.ndarray) -> list[dict[str, Any]]:
    indices = [int(index) for index in indices]
    try:
      found = self._records.__getitems__(indices)
    except (OSError, ValueError, RuntimeError, IndexError):
      found = [self._read_one(index) for index in indices]
    return [self._record(i, data) for i, data in zip(indices, found)]

  def _read_one(self, index):
    try:
      return self._records.__getitems__([index])[0]
    except (OSError, ValueError, RuntimeError, IndexError):
      return b""

  def _record(self, index, data):
    example = example_pb2.Example()
    with contextlib.suppress(Exception):  # protobuf's own kind of error
      example.ParseFromString(data)
    feature = example.features.feature
    label = feature["label"].int64_list.value
    record = {
      "image": _first(feature["image"]),
      "label": int(label[0]) if label and self.num_classes else 0,
      "name": f"{self.name}[{index}]",
    }
    for name in self.fields:
      if name == "boxes":
        boxes = feature[f"{self._objects}/bbox"].float_list.value
        record[name] = np.array(boxes, np.float32).reshape(-1, 4)
      elif name == "box_labels":
        labels = feature[f"{self._objects}/label"].int64_list.value
        record[name] = np.array(labels, np.int32)
      elif name == "box_flags":
        record[name] = self._flags(feature)
      else:
        record[name] = _first(feature[name])
    return record

  def _flags(self, feature):
    count = len(feature[f"{self._objects}/label"].int64_list.value)
    flags = np.zeros(count, np.int32)
    for name, flag in _FLAGS.items():
      told = feature[f"{self._objects}/{name}"].int64_list.value
      if told:
        bit = source.BOX_FLAGS[flag]
        flags |= np.where(np.array(told) == 1, bit, 0).astype(np.int32)
    return flags


def make_builder(
  name: str, data_dir: str = "", **options: Any
) -> tfds.core.DatasetBuilder:
  """Return the TFDS builder of a name, ours included.

  Raises DataError for a name or config that does not exist.
  """
  dataset, _, config = name.partition("/")
  options["data_dir"] = os.path.expanduser(data_dir) or None
  try:
    if dataset == "scenes":
      from data.scenes import builder as scenes

      return scenes.Scenes(config=scenes.parse(config), **options)
    if dataset == "ffhq":
      from data.ffhq import builder as ffhq

      return ffhq.Ffhq(**options)
    if dataset == "lsun" and config:
      from data.lsun import builder as lsun

      return lsun.Lsun(config=config, **options)
    return tfds.builder(name, **options)
  except tfds.core.DatasetNotFoundError as error:
    raise source.DataError(
      f"TFDS knows no dataset {name!r}, and none is prepared in "
      f"{_place(data_dir)}"
    ) from error
  except (ValueError, ImportError) as error:
    reason = " ".join(str(error).split())
    raise source.DataError(f"TFDS dataset {name!r}: {reason[:300]}") from error


def prepare(name: str, data_dir: str = "", manual_dir: str = "") -> None:
  """Prepare a dataset as array_record, once, however many ask for it.

  Raises DataError with the reason where that fails.
  """
  manual = pathlib.Path(os.path.expanduser(manual_dir))
  if manual_dir and not manual.is_dir():
    raise source.DataError(f"cannot prepare {name}: {manual} is no folder")
  builder = make_builder(
    name, data_dir, file_format=tfds.core.FileFormat.ARRAY_RECORD
  )
  parent = pathlib.Path(builder.data_dir).parent
  parent.mkdir(parents=True, exist_ok=True)
  if not sys.stderr.isatty():
    tfds.disable_progress_bar()
  config = tfds.download.DownloadConfig(
    manual_dir=str(manual) if manual_dir else None
  )
  with open(parent / ".lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if builder.is_prepared():
      return
    _log.info("preparing %s in %s (once)", name, builder.data_dir)
    try:
      with contextlib.redirect_stdout(sys.stderr):
        builder.download_and_prepare(download_config=config)
    except _FAILURES as error:
      reason = " ".join(str(error).split())
      raise source.DataError(f"cannot prepare {name}: {reason}") from error


def _keep_out_of_pictures(name, data_dir):
  """Refuse to render scenes into a folder that was meant as the dataset."""
  root = pathlib.Path(os.path.expanduser(data_dir))
  if not data_dir or not root.is_dir():
    return
  # NAME/VERSION or NAME/CONFIG/VERSION.
  prepared = (root.glob(f"{'*/' * n}dataset_info.json") for n in (2, 3))
  # Beside each other, in class folders, or in those of a split.
  files = (root.glob(f"{'*/' * n}*.*") for n in (0, 1, 2))
  pictures = (
    path.suffix[1:].lower() in folder.EXTENSIONS
    for path in itertools.chain(*files)
  )
  if any(pictures) and not any(itertools.chain(*prepared)):
    raise source.DataError(
      f"data.dir={data_dir} holds pictures and {name} would be rendered into "
      "it: tiny forms use embedded data and none of yours; for a short run on "
      "pictures take `:64,laptop --config.train.num_steps=20` of dct_folder"
    )


def _how_to_prepare(builder, name, data_dir):
  """One message: what is missing, what to download, what to run."""
  by_hand = " ".join((builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "").split())
  command = f"python -m launch.prepare {name}"
  if data_dir:
    command += f" --data_dir={data_dir}"
  missing = f"the TFDS dataset {name} is not in {_place(data_dir)}"
  if not by_hand:
    return f"{missing}; download and prepare it with `{command}`"
  return (
    f"{missing}. First download it by hand into a folder DIR: {by_hand} "
    f"Then run `{command} --manual_dir=DIR`"
  )


def _place(data_dir):
  return data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"


def _spans(builder, name, split):
  """(path, first record, one past the last) of every file of a split."""
  try:
    files = builder.info.splits[split].file_instructions
  except (ValueError, KeyError, AssertionError) as error:
    raise source.DataError(
      f"{name} has no split {split!r}; it has {sorted(builder.info.splits)}"
    ) from error
  return [(f.filename, f.skip, f.skip + f.take) for f in files]


def _class_names(feature):
  if not isinstance(feature, tfds.features.ClassLabel):
    return ()
  if feature.names:
    return tuple(feature.names)
  return tuple(str(i) for i in range(feature.num_classes))


def _objects(features):
  """The feature that has boxes (Open Images' is `bobjects`), "" for none."""
  for name in ("objects", "bobjects"):
    held = getattr(features.get(name), "feature", None)
    if isinstance(held, tfds.features.FeaturesDict) and "bbox" in held:
      return name
  return ""


def _fields(features, objects):
  """Which of source.FIELDS a dataset has, boxes in the feature `objects`."""
  fields = [
    name
    for name in ("segmentation", "depth")
    if isinstance(features.get(name), tfds.features.Image)
  ]
  if objects:
    fields.append("boxes")
    if "label" in features[objects].feature:
      fields.append("box_labels")
      if any(name in features[objects].feature for name in _FLAGS):
        fields.append("box_flags")
  return tuple(fields)


def _first(feature):
  values = feature.bytes_list.value
  return values[0] if values else b""
