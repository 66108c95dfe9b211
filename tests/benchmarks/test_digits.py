"""Digits are read by their nearest neighbours."""

import gzip

import numpy as np

from benchmarks import digits


def test_digits_are_made_and_judged(tmp_path, capsys):
  labels = np.arange(600, dtype=np.uint8) % 10
  images = np.repeat(labels * 20, 28 * 28)  # a shade a digit
  for name, header, array in (
    ("t10k-images-idx3-ubyte.gz", 16, images),
    ("t10k-labels-idx1-ubyte.gz", 8, labels),
  ):
    whole = bytes(header) + array.tobytes()
    (tmp_path / name).write_bytes(gzip.compress(whole))
  data = tmp_path / "digits.npz"
  assert digits.main(["make", f"--source={tmp_path}", f"--out={data}"]) == 0
  with np.load(data) as made:
    assert made["train_images"].shape == (100, 28, 28, 3)
    assert (made["train_images"][:, 0, 0, 0] == made["train_labels"] * 20).all()
  drawn = tmp_path / "drawn"
  drawn.mkdir()
  shades = np.array([3, 3, 5, 7], np.uint8) * np.uint8(20)
  arrays = np.broadcast_to(shades[:, None, None, None], (4, 32, 32, 3))
  np.savez(drawn / "samples.npz", arr_0=arrays, labels=[3, 4, 5, 7])
  assert digits.main(["judge", f"--data={data}", str(drawn)]) == 0
  first, second = capsys.readouterr().out.splitlines()
  end = "of the closest twentieth"
  assert first == f"held out: 500, right 1.000, nearest 0.0, {end} 0.0"
  assert second == f"{drawn}: 4, right 0.750, nearest 0.0, {end} 0.0"
