import itertools

import numpy as np
import pytest

from evaluation import generation, image_sets

IMAGES = np.random.RandomState(0).randint(0, 256, (11, 6, 5, 3), np.uint8)


def everything(images, size=4):
  return np.concatenate([piece for _, piece in images.batches(size)])


def sources(tmp_path):
  np.savez(tmp_path / "stored.npz", IMAGES)
  np.savez_compressed(tmp_path / "packed.npz", IMAGES, np.arange(11))
  np.save(tmp_path / "a.npy", IMAGES)
  generation.generate(
    lambda i: {"images": IMAGES[i % 11], "labels": i}, 11, 4, tmp_path / "s"
  )
  return {
    "array": IMAGES,
    "stored": tmp_path / "stored.npz",
    "packed": tmp_path / "packed.npz",
    "npy": tmp_path / "a.npy",
    "samples": tmp_path / "s",
  }


def test_every_source_gives_every_image_once_in_order(tmp_path):
  for name, source in sources(tmp_path).items():
    images = image_sets.open_set(source)
    assert images.num == 11, name
    for size in (1, 4, 11, 50):
      np.testing.assert_array_equal(everything(images, size), IMAGES)
    if name in ("packed", "samples"):
      np.testing.assert_array_equal(images.labels, np.arange(11))


def test_processes_share_the_batches_without_gap_or_overlap(tmp_path):
  images = image_sets.from_array(IMAGES)
  found = np.zeros_like(IMAGES)
  seen = []
  for index in range(3):
    for start, piece in images.batches(2, index, 3):
      found[start : start + len(piece)] = piece
      seen += range(start, start + len(piece))
  np.testing.assert_array_equal(found, IMAGES)
  assert sorted(seen) == list(range(11))


@pytest.mark.parametrize("size", [1, 3, 4, 20])
def test_batches_have_their_size_whatever_the_pieces(size):
  edges = [0, 1, 1, 8, 10, 11]
  images = image_sets.ImageSet(
    "odd", 11, lambda n: (IMAGES[a:b] for a, b in itertools.pairwise(edges))
  )
  found = list(images.batches(size))
  assert [start for start, _ in found] == list(range(0, 11, size))
  assert all(len(piece) == size for _, piece in found[:-1])
  np.testing.assert_array_equal(everything(images, size), IMAGES)


def test_a_process_reads_its_own_batches_only():
  seen = []

  def read(start, stop):
    seen.extend(range(start, stop))
    return IMAGES[start:stop]

  images = image_sets.seekable("seekable", 11, read)
  images = images.take(10).map(lambda x: 255 - x, "inverted")
  found = dict(images.batches(2, 1, 3))
  assert list(found) == [2, 8] and seen == [2, 3, 8, 9]
  for start, piece in found.items():
    np.testing.assert_array_equal(piece, 255 - IMAGES[start : start + 2])
  found = dict(images.spaced(5).batches(1, 1, 3))
  assert list(found) == [1, 4]
  np.testing.assert_array_equal(found[4], 255 - IMAGES[8:9])
  np.testing.assert_array_equal(everything(images), 255 - IMAGES[:10])


def test_a_process_reads_its_own_parts_of_samples_only(tmp_path, monkeypatch):
  draw = lambda i: {"images": IMAGES[i % 11], "labels": i}
  samples = generation.generate(draw, 11, 2, tmp_path)
  found = image_sets.open_set(tmp_path)
  np.testing.assert_array_equal(found.labels, np.arange(11))
  seen = []
  part = generation.Samples.part

  def watched(self, index, names=None):
    seen.append(index)
    return part(self, index, names)

  monkeypatch.setattr(generation.Samples, "part", watched)
  for start, piece in found.batches(2, 1, 3):
    np.testing.assert_array_equal(piece, IMAGES[start : start + 2])
  assert seen == [1, 4] and len(samples) == 11


def test_take_and_map(tmp_path):
  images = image_sets.from_array(IMAGES).take(5)
  np.testing.assert_array_equal(everything(images, 2), IMAGES[:5])
  inverted = images.map(lambda x: 255 - x, "inverted")
  np.testing.assert_array_equal(everything(inverted), 255 - IMAGES[:5])
  assert inverted.name.endswith("(inverted)")
  with pytest.raises(image_sets.ImageSetError, match="5 images, not 6"):
    images.take(6)


@pytest.mark.parametrize("num", [1, 3, 10, 11])
def test_some_images_are_taken_over_the_whole_set(num):
  images = image_sets.ImageSet(
    "labelled",
    11,
    lambda n: (IMAGES[i : i + n] for i in range(0, 11, n)),
    np.arange(11),
  ).spaced(num)
  places = [i * 11 // num for i in range(num)]
  for size in (2, 11):
    np.testing.assert_array_equal(everything(images, size), IMAGES[places])
  np.testing.assert_array_equal(images.labels, places)
  with pytest.raises(image_sets.ImageSetError, match="images, not 12"):
    images.spaced(12)


def test_arrays_with_alpha_become_rgb():
  rgba = image_sets.to_rgb(np.concatenate([IMAGES, IMAGES[..., :1]], -1))
  np.testing.assert_array_equal(rgba, IMAGES)


def test_floats_are_rounded_and_clipped():
  pixels = np.array([-2, -1, 0, 1 / 255, 1, 3])
  np.testing.assert_array_equal(
    image_sets.to_uint8(pixels), [0, 0, 128, 128, 255, 255]
  )


def test_bad_sets_are_named(tmp_path):
  error = image_sets.ImageSetError
  with pytest.raises(error, match="is absent"):
    image_sets.open_set(tmp_path / "nowhere")
  (tmp_path / "x.txt").write_text("")
  with pytest.raises(error, match="neither a folder nor"):
    image_sets.open_set(tmp_path / "x.txt")
  np.savez(tmp_path / "f.npz", IMAGES.astype(np.float32))
  with pytest.raises(error, match="float32, not uint8"):
    image_sets.open_set(tmp_path / "f.npz")
  np.savez(tmp_path / "m.npz", mu=np.zeros(3))
  with pytest.raises(error, match="no arr_0"):
    image_sets.open_set(tmp_path / "m.npz")
  np.savez(tmp_path / "t.npz", IMAGES)
  data = (tmp_path / "t.npz").read_bytes()
  at = data.index(IMAGES.tobytes()[:50]) + 99
  (tmp_path / "t.npz").write_bytes(
    data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
  )
  with pytest.raises(error, match="CRC"):
    everything(image_sets.open_set(tmp_path / "t.npz"))
  (tmp_path / "t.npz").write_bytes(data[:200])
  with pytest.raises(error, match="cannot be read"):
    image_sets.open_set(tmp_path / "t.npz")


def test_a_set_that_ends_early_is_found():
  images = image_sets.ImageSet("short", 12, lambda n: iter([IMAGES]))
  with pytest.raises(image_sets.ImageSetError, match="11 images, not 12"):
    everything(images)
