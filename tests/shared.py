"""Where the optional test material lies: photographs, arrays, weights.

The project never needs it; a test that uses it is skipped where it is absent.
"""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def shared_dir(*parts: str) -> Path:
  """Returns a path below the folder of shared material, or skips the test.

  The folder is $TESSERA_SHARED, else `shared` beside the checkout. `parts`
  name something in it, such as ("data", "kodak").
  """
  folder = Path(os.environ.get("TESSERA_SHARED") or ROOT.parent / "shared")
  path = folder.joinpath(*parts)
  if not path.exists():
    pytest.skip(f"no {path.name} below the shared folder ($TESSERA_SHARED)")
  return path
