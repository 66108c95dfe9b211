"""Codes that are pixels: palettes by k-means, shades of grey."""

import jax
import numpy as np
import pytest

from vqgan import pixel_codes

COLOURS = np.array([[250, 10, 10], [10, 240, 20], [0, 0, 0], [90, 90, 200]])


def _pixels(count=400, noise=4):
  random = np.random.RandomState(0)
  pixels = COLOURS[random.randint(0, len(COLOURS), count)]
  pixels = pixels + random.randint(-noise, noise + 1, (count, 3))
  return np.clip(pixels, 0, 255).astype(np.uint8)


def test_a_palette_finds_the_colours():
  params = pixel_codes.fit(_pixels(), 8, jax.random.key(1))
  distance = np.abs(params["palette"][:, None] - COLOURS).max(-1)
  assert (distance.min(0) < 4).all() and (distance.min(1) < 6).all()
  luma = params["palette"] @ [0.299, 0.587, 0.114]
  assert (np.diff(luma) >= 0).all()


def test_palette_codes_decode_to_the_nearest_colour():
  coder = pixel_codes.Palette(4, (5, 8))
  params = {"palette": np.float32(COLOURS)}
  image = _pixels(40).reshape(1, 5, 8, 3)
  codes = coder.encode(params, image)
  assert codes.shape == (1, 5, 8) and codes.dtype == np.int32
  made = np.asarray(coder.decode(params, codes))
  assert made.shape == image.shape and made.dtype == np.uint8
  assert np.abs(made.astype(int) - image).max() <= 4
  np.testing.assert_allclose(
    coder.embed(params, codes), made / 127.5 - 1, atol=1e-6
  )
  spec = coder.spec(2)
  assert spec.shape == (2, 5, 8, 3) and coder.factor == 1
  other = {"palette": params["palette"] + 1}
  assert coder.fingerprint(params) != coder.fingerprint(other)


def test_pixels_are_their_own_codes():
  coder = pixel_codes.Pixels((2, 3))
  rows = np.arange(6, dtype=np.uint8).reshape(1, 2, 3, 1) * 51
  codes = coder.encode({}, rows)
  np.testing.assert_array_equal(codes[0], rows[0, ..., 0])
  made = coder.decode({}, codes)
  np.testing.assert_array_equal(made, np.repeat(rows, 3, axis=-1))
  embedded = coder.embed({}, codes)
  assert float(embedded.min()) == -1 and float(embedded.max()) == 1
  assert coder.num_codes == 256 and len(coder.fingerprint({})) == 16


def test_a_palette_needs_enough_pixels():
  with pytest.raises(ValueError, match="4 pixels are too few for 8 colours"):
    pixel_codes.fit(_pixels(4), 8, jax.random.key(0))
