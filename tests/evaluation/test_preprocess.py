import numpy as np
import pytest
from PIL import Image

from evaluation import preprocess
from tests.shared import shared_dir

NAMES = {"adm": "tf1", "pytorch_fid": "pytorch_fid", "clean": "clean"}


@pytest.mark.parametrize("mode", preprocess.MODES)
def test_resized_images_equal_the_reference(mode):
  path = shared_dir("golden", "evaluation", "inception_s64_s299.npz")
  golden = np.load(path)
  images = golden["s64/images_u8_nhwc"][:1]
  expected = golden[f"s64/{NAMES[mode]}/resized299_nhwc_f32"]
  if mode == "pytorch_fid":
    expected = expected * 255  # it scales before it resizes
  found = preprocess.resize(images, mode)
  np.testing.assert_allclose(found, expected, atol=2e-4)


def test_the_modes_differ():
  matrices = [preprocess.matrix(64, mode) for mode in preprocess.MODES]
  for i in range(3):
    assert abs(matrices[i] - matrices[i - 1]).max() > 0.05


@pytest.mark.parametrize("mode", preprocess.MODES)
@pytest.mark.parametrize("size", [1, 2, 32, 255, 299, 512])
def test_a_constant_stays_constant_at_every_size(mode, size):
  matrix = preprocess.matrix(size, mode)
  np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)
  if size == 299:
    np.testing.assert_allclose(matrix, np.eye(299), atol=1e-6)


def test_clean_shrinks_as_pillow_does():
  draw = np.random.RandomState(0)
  image = draw.randint(0, 256, (400, 360), np.uint8)
  expected = np.asarray(
    Image.fromarray(image.astype(np.float32)).resize((299, 299), Image.BICUBIC)
  )
  rgb = np.repeat(image[None, :, :, None], 3, -1)
  np.testing.assert_allclose(
    preprocess.resize(rgb, "clean")[0, :, :, 0],
    np.clip(expected, 0, 255),
    atol=2e-3,
  )


def test_normalisation_follows_the_mode():
  black, white = np.zeros((1, 9, 9, 3), np.uint8), np.full((1, 9, 9, 3), 255)
  white = white.astype(np.uint8)
  for mode, low, high in (
    ("adm", -1, 127 / 128),
    ("clean", -1, 127 / 128),
    ("pytorch_fid", -1, 1),
  ):
    np.testing.assert_allclose(preprocess.prepare(black, mode), low, atol=1e-5)
    np.testing.assert_allclose(preprocess.prepare(white, mode), high, atol=1e-5)


def test_wrong_input_is_named():
  with pytest.raises(ValueError, match=r"float32 .* not uint8"):
    preprocess.prepare(np.zeros((1, 8, 8, 3), np.float32))
  with pytest.raises(ValueError, match="not one of adm, pytorch_fid, clean"):
    preprocess.prepare(np.zeros((1, 8, 8, 3), np.uint8), "legacy")
