import numpy as np
import tensorflow as tf
from PIL import Image

from data import images
from tests.data import damage


def smooth(h, w):
  y, x = np.mgrid[:h, :w]
  waves = [np.sin(x / 9 + i) + np.cos(y / 7 - i) for i in range(3)]
  return np.rint(127.5 + 60 * np.stack(waves, -1)).astype(np.uint8)


def test_resizing_is_antialiased_and_close_to_pillow():
  noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
  small = images.resize(tf.constant(noise), 16, 16).numpy()
  # 64 pixels become one: the noise (deviation 74) must average out.
  assert small.dtype == np.uint8 and small.std() < 20
  image = smooth(96, 64)
  wanted = Image.fromarray(image).resize((32, 48), Image.BICUBIC)
  found = images.resize(tf.constant(image), 48, 32).numpy()
  assert np.abs(found.astype(int) - np.asarray(wanted)).max() <= 2


def test_resizing_to_the_same_size_changes_nothing():
  image = smooth(32, 24)
  found = images.resize(tf.constant(image), 32, 24)
  np.testing.assert_array_equal(found, image)


def test_center_crop_is_the_middle():
  image = smooth(20, 31)
  found = images.center_crop(tf.constant(image), 10, 11)
  np.testing.assert_array_equal(found, image[5:15, 10:21])
  found = images.center_crop(tf.constant(image), 50, 11)
  np.testing.assert_array_equal(found, image[:, 10:21])


def test_padding_repeats_the_edge():
  image = smooth(17, 32)
  found = images.edge_pad_to_multiple(tf.constant(image), 16).numpy()
  wanted = np.pad(image, ((0, 15), (0, 0), (0, 0)), "edge")
  np.testing.assert_array_equal(found, wanted)
  same = images.edge_pad_to_multiple(tf.constant(found), 16)
  np.testing.assert_array_equal(same, found)
  tiny = images.edge_pad_to_multiple(tf.constant(image[:1, :1]), 16)
  assert tiny.shape == (16, 16, 3) and (tiny == image[0, 0]).numpy().all()


def test_decode_gives_nothing_instead_of_failing():
  decode = tf.function(images.decode)
  png = damage.encoded(damage.picture())
  np.testing.assert_array_equal(decode(png), damage.picture())
  for name, data in damage.broken().items():
    assert decode(data).shape == (0, 0, 3), name
