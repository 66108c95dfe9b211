"""Where the public weights are looked for, and what is said without them."""

import numpy as np
import pytest

from launch import statistics
from weights import download

NAME = "pt_inception-2015-12-05-6726825d.pth"


@pytest.fixture
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("TESSERA_CACHE", str(tmp_path / "cache"))
  (tmp_path / "cache").mkdir()
  return tmp_path / "cache"


def run(images, out, *more):
  command = [f"--images={images}", f"--out={out}", "--batch=2", *more]
  return statistics.main(command)


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
