import functools
import json

import numpy as np
import pytest

from evaluation import pixels
from tests.shared import shared_dir
from weights import lpips


@functools.cache
def golden():
  folder = shared_dir("golden", "evaluation")
  known = json.loads((folder / "lpips_psnr_ssim.json").read_text())
  return known["psnr_ssim"], np.load(folder / "lpips_psnr_ssim.npz")


@pytest.mark.parametrize("name", ["ex_ref|ex_p1", "kodak15|kodak15_q30"])
def test_psnr_and_ssim_equal_the_references(name):
  known, images = golden()
  a, b = (images[key][None] for key in name.split("|"))
  np.testing.assert_allclose(
    pixels.psnr(a, b), known[name]["psnr_skimage_255"], rtol=1e-12
  )
  np.testing.assert_allclose(
    pixels.ssim(a, b), known[name]["ssim_tf_g11_s1.5"], atol=2e-5
  )


def test_equal_images_are_perfect():
  a = np.random.RandomState(0).randint(0, 256, (2, 35, 35, 3), np.uint8)
  assert np.isinf(pixels.psnr(a, a)).all()
  np.testing.assert_allclose(pixels.ssim(a, a), 1, atol=1e-6)
  assert (pixels.lpips(lpips.random("alex"), a, a) < 1e-9).all()


def test_each_image_is_scored_alone():
  random = np.random.RandomState(0)
  a = random.randint(0, 256, (3, 16, 16, 3), np.uint8)
  b = random.randint(0, 256, (3, 16, 16, 3), np.uint8)
  for score in (pixels.psnr, pixels.ssim):
    single = np.concatenate(
      [score(a[i : i + 1], b[i : i + 1]) for i in range(3)]
    )
    np.testing.assert_allclose(score(a, b), single, rtol=1e-5)


def test_images_that_are_no_pairs_are_refused():
  a = np.zeros((1, 16, 16, 3), np.uint8)
  with pytest.raises(ValueError, match="not pairs"):
    pixels.psnr(a, np.zeros((1, 16, 8, 3), np.uint8))
  with pytest.raises(ValueError, match="float32"):
    pixels.ssim(a.astype(np.float32), a)
  with pytest.raises(ValueError, match="smaller than SSIM's window"):
    pixels.ssim(a[:, :8], a[:, :8])


def test_edges_have_energy():
  images = np.full((3, 8, 8, 3), 90, np.uint8)
  images[1:, :, 4:] = 190
  images[2, :, 3:5] = 140
  flat, sharp, soft = pixels.laplacian_energy(images)
  assert flat < 1e-6
  # A step of 100 in luma: 100^2 in two of six columns, or 50^2 in four.
  assert sharp == pytest.approx(100**2 * 2 / 6)
  assert soft == pytest.approx(50**2 * 4 / 6)
  with pytest.raises(ValueError, match="smaller than the Laplacian's 3 x 3"):
    pixels.laplacian_energy(images[:, :2])
