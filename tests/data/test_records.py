import logging

import numpy as np
import pytest

from data import arrays, decoding, records, source
from tests.data import damage

SOUND, BROKEN = damage.sound(), damage.broken()


@pytest.mark.parametrize("kind", SOUND)
def test_every_sound_file_becomes_rgb(kind):
  image = decoding.to_rgb(SOUND[kind])
  assert image.dtype == np.uint8
  if kind == "one_pixel":
    assert image.shape == (1, 1, 3)
    return
  assert image.shape == (damage.H, damage.W, 3)
  wanted = damage.picture().astype(float)
  if kind in ("grey_jpeg", "grey_png", "grey_alpha", "bits") or (
    kind.startswith(("deep", "float"))
  ):
    wanted = wanted @ [[0.299], [0.587], [0.114]]
  # Palettes, chroma and one bit are coarse: the picture must be there.
  bound = {"bits": 125, "gif": 30, "palette": 45, "animated_gif": 30}
  assert np.abs(image - wanted).mean() < bound.get(kind, 8)


@pytest.mark.parametrize("kind", BROKEN)
def test_every_broken_file_is_unreadable(kind):
  with pytest.raises(decoding.Unreadable) as error:
    decoding.to_rgb(BROKEN[kind])
  assert str(error.value) and "\n" not in str(error.value)


def test_transparent_pixels_are_black():
  image = np.dstack([damage.picture(), np.zeros([20, 28], np.uint8)])
  assert decoding.to_rgb(damage.encoded(image)).max() == 0


def test_arrays_are_checked():
  grey = np.zeros([4, 5], np.uint8)
  assert decoding.to_rgb(grey).shape == (4, 5, 3)
  for bad in (
    grey.astype(float),
    np.zeros([0, 4, 3], np.uint8),
    np.zeros([4, 5, 2], np.uint8),
  ):
    with pytest.raises(decoding.Unreadable):
      decoding.to_rgb(bad)


def test_stand_in_is_the_next_readable_record(caplog):
  good = SOUND["png"]
  reader = records.Reader(arrays.Arrays([good, b"", b"x", good, b"y"]))
  with caplog.at_level(logging.WARNING):
    for _ in range(2):
      found = [reader.decode(r)["index"] for r in reader.read(np.arange(5))]
      assert found == [0, 3, 3, 3, 0]
  assert sorted(reader.replaced) == [1, 2, 4]
  named = [r.getMessage() for r in caplog.records]
  assert len(named) == 3 and "arrays[1]: empty file" in named[0]


def test_nothing_readable_is_one_clear_error():
  reader = records.Reader(arrays.Arrays([b"", b"x"], name="mine"))
  with pytest.raises(source.DataError, match="mine: 2 records in a row"):
    reader.decode(reader.read([1])[0])
  assert reader.failure is not None
