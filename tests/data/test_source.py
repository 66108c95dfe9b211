import numpy as np

from data import arrays, source


def test_a_part_has_its_records_and_a_fingerprint_of_its_own():
  images = np.arange(6, dtype=np.uint8)[:, None, None, None]
  images = np.broadcast_to(images, (6, 4, 4, 3))
  whole = arrays.Arrays(images, np.arange(6) % 2)
  first, spaced = (
    source.Part(whole, np.array(x)) for x in ([0, 1, 2], [0, 2, 4])
  )
  assert len(spaced) == 3 and spaced.num_classes == whole.num_classes
  found = [int(x["image"][0, 0, 0]) for x in spaced.read(np.array([2, 0]))]
  assert found == [4, 0]
  # What is kept by it, such as moments, is of these very records.
  prints = [x.fingerprint for x in (whole, first, spaced)]
  assert len({*prints}) == 3
  again = source.Part(whole, np.array([0, 2, 4]))
  assert again.fingerprint == prints[2]
