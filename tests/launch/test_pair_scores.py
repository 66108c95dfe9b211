"""PSNR, SSIM, LPIPS and edges of pairs from the command line: no Inception."""

import numpy as np
import pytest

from evaluation import features, image_sets, pixels, report
from launch import evaluate, scores
from tests.evaluation import tiny_network
from weights import lpips

IMAGES = np.random.RandomState(0).randint(0, 256, (30, 8, 8, 3), np.uint8)


@pytest.fixture
def pairs(tmp_path, monkeypatch):
  """Two sets, of which the second is a little off, and no network."""
  monkeypatch.setattr(scores, "open_network", None)
  noisy = IMAGES.copy()
  noisy[:, ::2] ^= 3
  np.savez(tmp_path / "a.npz", IMAGES)
  np.savez(tmp_path / "b.npz", noisy)
  return noisy


def score(folder, metric):
  command = [f"--samples={folder / 'b.npz'}", f"--metrics={metric}"]
  command += [f"--reference={folder / 'a.npz'}", f"--out={folder / 'out'}"]
  assert evaluate.main(command) == 0
  return report.read(folder / "out")


def test_pairs_are_compared_in_order_without_a_network(pairs, tmp_path):
  found = score(tmp_path, "psnr")
  difference = (np.float64(pairs) - IMAGES) ** 2
  expected = 10 * np.log10(255**2 / difference.mean((1, 2, 3)))
  assert found["scores"] == {"psnr": pytest.approx(expected.mean())}
  assert found["weights"] == found["preprocess"] == "none"
  assert found["size"] == [8, 8] and found["num_samples"] == 30
  assert "lpips" not in found
  noise = image_sets.from_array(pairs)
  other = features.extract(noise, tiny_network.make(), keep=())
  assert found["digest"] == other.digest


def test_lpips_names_its_own_network(pairs, tmp_path, monkeypatch):
  monkeypatch.setattr(lpips, "load", lambda net: net)
  monkeypatch.setattr(scores.pixels, "lpips", lambda *a: np.ones(len(a[1])))
  found = score(tmp_path, "lpips")
  assert found["scores"] == {"lpips_alex": 1}
  assert found["lpips"]["net"] == "alex" and found["weights"] == "none"
  begins = {k: v[:8] for k, v in found["lpips"]["weights"].items()}
  assert begins == {
    "alexnet-owt-7be5be79.pth": "7be5be79",
    "lpips_v0.1_alex.pth": "df73285e",
  }


def test_edges_are_compared_with_those_of_the_second_set(tmp_path, pairs):
  found = score(tmp_path, "edges")["scores"]
  energies = [pixels.laplacian_energy(x).sum() for x in (pairs, IMAGES)]
  assert energies[0] != energies[1]
  assert found == {"edges": pytest.approx(energies[0] / energies[1])}
