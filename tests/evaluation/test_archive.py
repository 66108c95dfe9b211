import io

import numpy as np
import pytest

from evaluation import archive


def _parts():
  generator = np.random.default_rng(0)
  return [
    generator.integers(0, 256, (n, 6, 5, 3)).astype(np.uint8) for n in (4, 4, 1)
  ]


def test_parts_become_one_array_beside_others():
  parts, file = _parts(), io.BytesIO()
  cut = (part[:, :4, :3] for part in parts)  # not contiguous, and read once
  labels = np.arange(9, dtype=np.int32)
  archive.write(file, {"labels": labels}, cut, (9, 4, 3, 3))
  file.seek(0)
  with np.load(file, allow_pickle=False) as held:
    assert held.files == ["arr_0", "labels"]
    expected = np.concatenate(parts)[:, :4, :3]
    np.testing.assert_array_equal(held["arr_0"], expected)
    np.testing.assert_array_equal(held["labels"], labels)
    assert held["arr_0"].dtype == np.uint8


@pytest.mark.parametrize(
  "shape, said", [((8, 6, 5, 3), "9 pictures, not 8"), ((9, 6, 6, 3), "fit")]
)
def test_what_does_not_fit_is_refused(shape, said):
  with pytest.raises(ValueError, match=said):
    archive.write(io.BytesIO(), {}, _parts(), shape)
