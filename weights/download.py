"""Fetches the public weight files on first use, checked and cached.

A file is looked for in the cache folder ($TESSERA_CACHE, or the user's cache)
and only then fetched, which is announced. What is there is always checked, so
a file may as well be put there by hand.
"""

import contextlib
import dataclasses
import os
import sys
import tempfile
from pathlib import Path

import pooch


class WeightsMissing(ValueError):
  """A weight file is neither there nor to be had; says which goes where."""


@dataclasses.dataclass(frozen=True)
class File:
  """A public file: its name, its address, how its SHA-256 begins."""

  name: str
  url: str
  sha256: str
  what: str


_TORCHVISION = "https://download.pytorch.org/models/"
_LPIPS = (
  "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/"
  "master/lpips/weights/v0.1/"
)
_FID = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"

# The names of the first four carry the start of their SHA-256.
FILES = {
  "inception": File(
    "pt_inception-2015-12-05-6726825d.pth",
    _FID + "pt_inception-2015-12-05-6726825d.pth",
    "6726825d",
    "the Inception network of FID",
  ),
  "vgg16": File(
    "vgg16-397923af.pth",
    _TORCHVISION + "vgg16-397923af.pth",
    "397923af",
    "the backbone of LPIPS (vgg)",
  ),
  "alexnet": File(
    "alexnet-owt-7be5be79.pth",
    _TORCHVISION + "alexnet-owt-7be5be79.pth",
    "7be5be79",
    "the backbone of LPIPS (alex)",
  ),
  "squeezenet1_1": File(
    "squeezenet1_1-b8a52dc0.pth",
    _TORCHVISION + "squeezenet1_1-b8a52dc0.pth",
    "b8a52dc0",
    "the backbone of LPIPS (squeeze)",
  ),
  "lpips_vgg": File(
    "lpips_v0.1_vgg.pth",
    _LPIPS + "vgg.pth",
    "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    "the linear heads of LPIPS (vgg)",
  ),
  "lpips_alex": File(
    "lpips_v0.1_alex.pth",
    _LPIPS + "alex.pth",
    "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    "the linear heads of LPIPS (alex)",
  ),
  "lpips_squeeze": File(
    "lpips_v0.1_squeeze.pth",
    _LPIPS + "squeeze.pth",
    "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76",
    "the linear heads of LPIPS (squeeze)",
  ),
}


def cache_dir() -> Path:
  """Returns the folder of the files: $TESSERA_CACHE or the user's cache."""
  return Path(os.environ.get("TESSERA_CACHE") or pooch.os_cache("tessera"))


def sha256(path: str | os.PathLike) -> str:
  """Returns the SHA-256 of a file in hex."""
  return pooch.file_hash(os.fspath(path), alg="sha256")


def fetch(key: str) -> Path:
  """Returns the path of a public file, fetching it where it is absent.

  Args:
    key: One of `FILES`.

  Raises:
    WeightsMissing: It cannot be fetched, or what is there is another file.
      The message is one line that says which file to put where.
  """
  if key not in FILES:
    raise ValueError(f"{key!r} is not one of {', '.join(FILES)}")
  file = FILES[key]
  path = cache_dir() / file.name
  if not path.exists():
    print(
      f"Fetching {file.what} once: {file.url} -> {path}",
      file=sys.stderr,
      flush=True,
    )
    _download(file, path)
  found = sha256(path)
  if not found.startswith(file.sha256):
    raise WeightsMissing(
      f"{path} is damaged or another file: its SHA-256 begins with"
      f" {found[:8]}, not {file.sha256[:8]}; replace it by {file.url}"
    )
  return path


def _download(file: File, path: Path) -> None:
  """Fetches to a partial file beside the target, then renames."""
  partial = None
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(suffix=".partial", dir=path.parent)
    os.close(handle)
    get = pooch.HTTPDownloader(timeout=30, progressbar=sys.stderr.isatty())
    get(file.url, partial, None)
    os.replace(partial, path)
  except Exception as error:
    # Whatever the network layer raises, the remedy is the same.
    raise WeightsMissing(
      f"cannot fetch {file.what} ({type(error).__name__}): put the file"
      f" {file.url} (SHA-256 {file.sha256[:8]}...) at {path}"
    ) from error
  finally:
    if partial:
      with contextlib.suppress(FileNotFoundError):
        os.remove(partial)
