"""Statistics with the public weights, or with a file of their exact shape."""

import hashlib
import json
import zlib

import jax
import numpy as np
import pytest

from evaluation import inception_weights, reference
from launch import statistics
from tests.shared import shared_dir
from tests.weights import torch_writer
from weights import download

NAME = "pt_inception-2015-12-05-6726825d.pth"


@pytest.fixture
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("TESSERA_CACHE", str(tmp_path / "cache"))
  (tmp_path / "cache").mkdir()
  return tmp_path / "cache"


@pytest.fixture
def images(tmp_path):
  folder = shared_dir("golden", "evaluation")
  found = np.load(folder / "inception_s64_s299.npz")
  np.savez(tmp_path / "images.npz", found["s64/images_u8_nhwc"][:2])
  return tmp_path / "images.npz", found["s64/tf1/pool3"][:2]


def file_like_the_public_one() -> bytes:
  """All 566 tensors by their names, with the golden arrays' weights."""
  folder = shared_dir("golden", "evaluation")
  path = folder / "pt_inception_2015_12_05_keys_shapes.json"
  drawn = inception_weights.random_tensors(0)
  tensors = {}
  for name, (*shape, storage) in json.loads(path.read_text()).items():
    if storage == "LongStorage":
      tensors[name] = np.int64(7)
    elif name in drawn:
      tensors[name] = drawn[name]
    else:
      draw = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
      tensors[name] = np.float32(draw.randn(*shape) * 0.02)
    assert tensors[name].shape == tuple(shape)
  assert len(tensors) == 566
  named = {k: torch_writer.tensor(v) for k, v in tensors.items()}
  return torch_writer.stream_bytes(named)


def run(images, out, *more):
  command = [f"--images={images}", f"--out={out}", "--batch=2", *more]
  return statistics.main(command)


def test_the_public_file_gives_the_features_of_the_reference(
  cache, images, tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
  content = file_like_the_public_one()
  digest = hashlib.sha256(content).hexdigest()
  known = download.FILES["inception"]
  assert known.name == NAME and known.sha256 == "6726825d"
  public = download.File(NAME, known.url, digest[:8], known.what)
  monkeypatch.setitem(download.FILES, "inception", public)
  archive, expected = images
  # Put there by hand, it is checked as if it had been fetched.
  (cache / NAME).write_bytes(content)
  for more in ((), (f"--inception={cache / NAME}",)):
    assert run(archive, tmp_path / "out.npz", *more) == 0
    found = reference.load(tmp_path / "out.npz")
    assert found.metadata["weights"] == digest
    error = np.abs(found.features - expected).max() / np.abs(expected).max()
    assert error < 1e-5
  assert "Fetching" not in capsys.readouterr().err


def test_without_the_public_file_one_line_says_what_goes_where(
  cache, tmp_path, monkeypatch, capsys
):
  known = download.FILES["inception"]
  nowhere = download.File(NAME, f"http://127.0.0.1:9/{NAME}", "6726825d", "it")
  monkeypatch.setitem(download.FILES, "inception", nowhere)
  np.savez(tmp_path / "images.npz", np.zeros((2, 8, 8, 3), np.uint8))
  assert run(tmp_path / "images.npz", tmp_path / "out.npz") == 1
  announced, error = capsys.readouterr().err.splitlines()
  assert "Fetching" in announced
  for part in (nowhere.url, "SHA-256 6726825d", str(cache / NAME)):
    assert part in error
  assert "--inception=FILE" in error
  # Something else in its place is not taken for it.
  monkeypatch.setitem(download.FILES, "inception", known)
  (cache / NAME).write_bytes(b"something else")
  assert run(tmp_path / "images.npz", tmp_path / "out.npz") == 1
  assert "begins with" in capsys.readouterr().err
  for name, content, said in (
    ("absent.pth", None, "absent.pth"),
    ("broken.pth", b"PK\x03\x04 broken", "broken.pth"),
  ):
    path = tmp_path / name
    if content:
      path.write_bytes(content)
    more = f"--inception={path}"
    assert run(tmp_path / "images.npz", tmp_path / "out.npz", more) == 1
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
  assert not (tmp_path / "out.npz").exists()
