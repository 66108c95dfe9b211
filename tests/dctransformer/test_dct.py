"""The codec against Annex K, scipy, Pillow's JPEG and photographs."""

import io

import jax
import numpy as np
import pytest
import scipy.fft
from PIL import Image

from dctransformer import dct
from tests import shared

_forward = jax.jit(dct.to_coefficients, static_argnums=0)
_backward = jax.jit(dct.to_image, static_argnums=0)


def _codec(block=8, quality=75, rows=4, cols=4, **fields):
  return dct.Codec(block, quality, rows, cols, **fields)


def _noise(h, w, seed=0):
  """Coloured noise: every coefficient is likely to be used."""
  generator = np.random.default_rng(seed)
  return generator.integers(0, 256, (h, w, 3), dtype=np.uint8)


def _psnr(image, other):
  error = np.mean((image.astype(np.float64) - np.asarray(other)) ** 2)
  return 10 * np.log10(255**2 / error)


def _jpeg(image, quality):
  buffer = io.BytesIO()
  Image.fromarray(image).save(
    buffer, "JPEG", quality=quality, subsampling="4:2:0"
  )
  return Image.open(buffer)


def _photograph(name, long_side):
  path = shared.shared_dir("data", "kodak") / name
  picture = Image.open(path)
  scale = long_side / max(picture.size)
  size = tuple(round(side * scale) for side in picture.size)
  image = np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
  h, w = (side // 16 * 16 for side in image.shape[:2])
  return image[:h, :w]


@pytest.mark.parametrize("block", dct.BLOCKS)
def test_zigzag_walks_the_antidiagonals(block):
  order = dct.zigzag(block)
  assert sorted(order) == list(range(block**2))
  diagonal = order // block + order % block
  assert (np.diff(diagonal) >= 0).all()
  # Each step goes to a neighbour, so directions alternate.
  u, v = np.divmod(order, block)
  assert (np.abs(np.diff(u)) <= 1).all() and (np.abs(np.diff(v)) <= 1).all()
  assert list(order[:3]) == [0, 1, block]


@pytest.mark.parametrize("block", dct.BLOCKS)
def test_basis_is_the_orthonormal_dct(block):
  x = np.random.default_rng(0).normal(size=(5, block))
  expected = scipy.fft.dct(x, norm="ortho")
  np.testing.assert_allclose(x @ dct.basis(block).T, expected, atol=1e-12)


@pytest.mark.parametrize(
  "quality", [1, 10, 35, 43, 49, 50, 60, 75, 90, 99, 100]
)
def test_tables_equal_those_that_libjpeg_writes(quality):
  written = _jpeg(_noise(16, 16), quality).quantization
  for ours, theirs in zip(_codec(quality=quality).tables(), written.values()):
    np.testing.assert_array_equal(ours.reshape(-1), theirs)


def test_steps_at_quality_60_are_13_for_luma_channels_0_and_6():
  steps = dct.steps(_codec(quality=60))
  assert (steps[0], steps[6]) == (13, 13)
  assert len(steps) == 192 and (steps[64:128] == steps[128:]).all()


@pytest.mark.parametrize("block", [16, 32])
def test_enlarged_tables_read_the_same_frequencies(block):
  small = _codec(quality=50).tables()
  factor = block // 8
  for method in dct.ENLARGINGS:
    for low, high in zip(small, _codec(block, 50, table=method).tables()):
      np.testing.assert_array_equal(high[::factor, ::factor], low)
  bilinear = _codec(block, 50).tables()[0][::factor]
  middle = factor // 2  # half-way between two entries
  expected = np.floor((small[0][:, :-1] + small[0][:, 1:]) / 2 + 0.5)
  np.testing.assert_array_equal(bilinear[:, middle:-factor:factor], expected)
  # Beyond the last entry there is nothing to interpolate with.
  np.testing.assert_array_equal(bilinear[:, -1], small[0][:, -1])
  nearest = _codec(block, 50, table="nearest").tables()[0]
  np.testing.assert_array_equal(
    nearest, small[0].repeat(factor, 0).repeat(factor, 1)
  )


def test_grey_image_has_no_coefficients():
  codec = _codec()
  grey = np.full((32, 32, 3), 128, np.uint8)
  coefficients = _forward(codec, grey)
  assert not coefficients.any()
  np.testing.assert_array_equal(_backward(codec, coefficients), grey)


@pytest.mark.parametrize(
  "color", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)]
)
def test_flat_colors_survive_in_the_dcs_alone(color):
  codec = _codec(quality=100)
  image = np.broadcast_to(np.uint8(color), (16, 16, 3))
  coefficients = np.asarray(_forward(codec, image))
  assert not np.delete(coefficients, [0, 64, 128], axis=-1).any()
  decoded = np.asarray(_backward(codec, coefficients)).astype(int)
  assert np.abs(decoded - color).max() <= 1


@pytest.mark.parametrize("block", dct.BLOCKS)
def test_coefficients_equal_a_plain_float64_computation(block):
  codec = _codec(block, 80)
  image = _noise(2 * block, 4 * block)
  planes = image.astype(np.float64) @ dct.COLOR.T
  planes[..., 0] -= 128
  expected = np.zeros((2, 4, 3 * block**2))
  for p in range(3):
    plane, step = planes[..., p], 1
    if p:
      plane, step = plane.reshape(block, 2, -1, 2).mean((1, 3)), 2
    table = codec.tables()[min(p, 1)]
    for i in range(0, 2, step):
      for j in range(0, 4, step):
        y, x = i // step * block, j // step * block
        block_ = plane[y : y + block, x : x + block]
        freq = scipy.fft.dctn(block_, norm="ortho") / table
        zigzag = freq.reshape(-1)[dct.zigzag(block)]
        expected[i, j, p * block**2 : (p + 1) * block**2] = zigzag
  found = np.asarray(_forward(codec, image))
  assert np.abs(found - expected).max() < 0.5 + 2 * dct.TIE
  assert (found != 0).mean() > 0.1


def test_chroma_sits_on_even_cells():
  coefficients = np.asarray(_forward(_codec(), _noise(32, 32)))
  chroma = coefficients[..., 64:]
  assert chroma[::2, ::2].any()
  assert not chroma[1::2].any() and not chroma[:, 1::2].any()


def test_batches_and_jit_change_nothing():
  codec = _codec()
  images = np.stack([_noise(16, 32, seed) for seed in range(4)])
  images = images.reshape(2, 2, 16, 32, 3)
  batched = _forward(codec, images)
  decoded = _backward(codec, batched)
  for i in range(2):
    for j in range(2):
      single = dct.to_coefficients(codec, images[i, j])
      np.testing.assert_array_equal(batched[i, j], single)
      np.testing.assert_array_equal(decoded[i, j], _backward(codec, single))


def test_decoding_is_the_inverse_up_to_rounding():
  codec = _codec(quality=100)
  flat = _noise(2, 2).repeat(2, 0).repeat(2, 1)  # one colour a chroma sample
  image = np.tile(flat, (4, 8, 1))
  decoded = _backward(codec, _forward(codec, image))
  assert np.abs(image.astype(int) - decoded).max() <= 4
  assert _psnr(image, decoded) > 48


def test_smooth_chroma_gains_from_bilinear_upsampling():
  y, x = np.mgrid[:64, :64]
  smooth = np.stack([3 * x, 128 + 0 * x, 255 - 3 * y], -1).astype(np.uint8)
  scores = {}
  for method in dct.UPSAMPLINGS:
    codec = _codec(8, 95, 8, 8, upsampling=method)
    coefficients = _forward(codec, smooth)
    scores[method] = _psnr(smooth, _backward(codec, coefficients))
  assert scores["bilinear"] > scores["nearest"] + 1


def test_clip_counts_what_it_changes():
  codec = _codec(max_value=3)
  coefficients = np.zeros((2, 4, 4, 192), np.int32)
  coefficients[0, 0, 0, :4] = [3, -3, 4, -5]
  clipped, changed = dct.clip(codec, coefficients)
  assert list(clipped[0, 0, 0, :4]) == [3, -3, 3, -3]
  assert list(changed) == [2, 0]


def test_value_classes_are_a_bijection_without_zero():
  codec = _codec(max_value=5)
  values = np.array([v for v in range(-5, 6) if v])
  classes = dct.value_class(codec, values)
  assert list(classes) == list(range(codec.num_values))
  np.testing.assert_array_equal(dct.class_value(codec, classes), values)
  assert 0 <= dct.value_class(codec, np.int32(0)) < codec.num_values


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"block": 4}, r"block 4 must be one of \[8, 16, 32\]"),
    ({"quality": 0}, "quality 0 must be between 1 and 100"),
    ({"rows": 3}, "rows 3 must be even"),
    ({"cols": 0}, "cols 0 must be even and at least 2"),
    ({"rows": 256, "cols": 256}, "at most 32768 positions"),
    ({"order": "raster"}, "order 'raster' must be one of"),
    ({"table": "cubic"}, "table 'cubic' must be one of"),
    ({"upsampling": "cubic"}, "upsampling 'cubic' must be one of"),
    ({"max_value": 0}, "max_value 0 must be between"),
  ],
)
def test_a_wrong_codec_says_what_is_wrong(fields, message):
  with pytest.raises(ValueError, match=message):
    _codec(**fields)


@pytest.mark.parametrize(
  ("image", "message"),
  [
    (np.zeros((16, 16), np.uint8), "must be uint8"),
    (np.zeros((16, 16, 3), np.float32), "must be uint8"),
    (np.zeros((16, 24, 3), np.uint8), "multiples of 16"),
    (np.zeros((0, 16, 3), np.uint8), "multiples of 16"),
    (np.zeros((48, 16, 3), np.uint8), "must fit the canvas of 32 x 32"),
  ],
)
def test_a_wrong_image_says_what_is_wrong(image, message):
  with pytest.raises(ValueError, match=message):
    dct.to_coefficients(_codec(), image)


def test_wrong_coefficients_say_what_is_wrong():
  with pytest.raises(ValueError, match="must be"):
    dct.to_image(_codec(), np.zeros((3, 2, 192), np.int32))


@pytest.mark.parametrize("name", ["03.png", "07.png", "19.png", "23.png"])
def test_photographs_look_as_good_as_a_jpeg_with_the_same_tables(name):
  codec = _codec(8, 75, 48, 48)
  image = _photograph(name, 384)
  coefficients = _forward(codec, image)
  ours = _psnr(image, _backward(codec, coefficients))
  theirs = _psnr(image, _jpeg(image, 75))
  assert 31 < ours < 37
  assert abs(ours - theirs) < 1
  total = np.count_nonzero(coefficients)
  assert 15_000 < total < 33_000
