"""A small `scenes` dataset for tests, made once per user and shared.

48 pictures for training, 16 for validation, 16 for testing. Safe to ask for
from several processes at once: whoever is first prepares it, the others wait.
"""

import functools
import hashlib
import pathlib
import tempfile

import data.scenes
from data import source


def scenes_name(side: int = 32) -> str:
  """The TFDS name of the small dataset at a side."""
  return f"scenes/{side}-48-16-0"


@functools.cache
def scenes_dir(side: int = 32) -> str:
  """Return a TFDS data_dir that holds `scenes_name(side)`, prepared."""
  from data import tfds

  root = pathlib.Path(tempfile.gettempdir()) / f"tessera-tests-{_user()}"
  root = root / _code()
  tfds.prepare(scenes_name(side), str(root))
  return str(root)


def fields(side: int = 32) -> dict[str, str]:
  """Return the fields of a config that read the small dataset."""
  return {
    "data.name": scenes_name(side),
    "data.dir": scenes_dir(side),
    "data.split": "train",
    "data.eval_split": "validation",
  }


def scenes_source(split: str = "train", side: int = 32) -> source.Source:
  """Return a split of the small dataset."""
  from data import tfds

  return tfds.Tfds(scenes_name(side), split, scenes_dir(side))


def _code() -> str:
  """A short hash of the renderer, so that a change of it is seen."""
  digest = hashlib.sha256()
  for path in sorted(pathlib.Path(data.scenes.__file__).parent.glob("*.py")):
    digest.update(path.read_bytes())
  return digest.hexdigest()[:12]


def _user() -> str:
  import getpass

  return getpass.getuser()
