"""What baseline JPEG spends on an image: the yardstick of the likelihood.

Pillow's libjpeg at the codec's quality, 4:2:0, optimised Huffman tables; what
counts is the entropy-coded data, the bytes after the start-of-scan header.
"""

import io

import numpy as np
from PIL import Image

_START_OF_SCAN = 0xDA


def scan_bits(image: np.ndarray, quality: int) -> int:
  """Return the bits of `image` (uint8 [h, w, 3]) as JPEG without headers.

  Counts everything after the start-of-scan segment, the two bytes of the end
  marker included. Header, quantisation and Huffman tables are free.
  """
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
    raise ValueError(
      f"image {image.dtype} {image.shape} must be uint8 [h, w, 3]"
    )
  buffer = io.BytesIO()
  Image.fromarray(image).save(
    buffer, "JPEG", quality=quality, subsampling="4:2:0", optimize=True
  )
  data = buffer.getvalue()
  return 8 * (len(data) - _scan_start(data))


def _scan_start(data: bytes) -> int:
  """Walk the segments to the first byte after the start-of-scan header."""
  at = 2
  while data[at + 1] != _START_OF_SCAN:
    at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
  return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
