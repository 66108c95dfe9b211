import io

import numpy as np
import pytest
from PIL import Image

from evaluation import jpeg


def _noise(side):
  return np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)


def test_scan_is_the_file_without_its_headers():
  image = _noise(48)
  buffer = io.BytesIO()
  Image.fromarray(image).save(
    buffer, "JPEG", quality=50, subsampling=2, optimize=True
  )
  data = buffer.getvalue()
  # The last start-of-scan marker of a baseline file; its header is 12 bytes.
  start = data.rindex(b"\xff\xda\x00\x0c") + 2 + 12
  assert jpeg.scan_bits(image, 50) == 8 * (len(data) - start)


def test_flat_image_costs_almost_nothing_and_quality_costs_more():
  flat = np.full((64, 64, 3), 128, np.uint8)
  # 96 blocks of at least two Huffman codes each, and the end marker.
  assert jpeg.scan_bits(flat, 75) <= 8 * 40
  image = _noise(64)
  bits = [jpeg.scan_bits(image, quality) for quality in (10, 50, 90)]
  assert bits[0] < bits[1] < bits[2]


def test_other_arrays_are_refused():
  with pytest.raises(ValueError, match=r"must be uint8 \[h, w, 3\]"):
    jpeg.scan_bits(np.zeros((8, 8, 3), np.float32), 75)
