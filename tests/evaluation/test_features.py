import json
import os
import socket
import subprocess
import sys
import tracemalloc
from pathlib import Path

import jax
import numpy as np
import pytest

from evaluation import (
  features,
  image_sets,
  inception_weights,
  moments,
  preprocess,
)
from tests.evaluation import tiny_network
from tests.shared import shared_dir

ROOT = Path(__file__).resolve().parents[2]
IMAGES = np.random.RandomState(0).randint(0, 256, (21, 8, 8, 3), np.uint8)


def extract(**options):
  images = image_sets.from_array(IMAGES)
  return features.extract(images, tiny_network.make(), **options)


def same(a, b, tolerance=1e-12):
  for kind in ("pool", "spatial"):
    x, y = a.moments[kind], b.moments[kind]
    assert x.count == y.count == 21
    np.testing.assert_allclose(x.mean, y.mean, atol=tolerance)
    np.testing.assert_allclose(x.scatter, y.scatter, atol=tolerance)
  assert a.digest == b.digest and a.size == b.size == (8, 8)


def test_moments_are_those_of_the_features():
  found = extract(batch=8)
  direct = moments.of(found.kept["pool"])
  np.testing.assert_allclose(
    found.moments["pool"].mean, direct.mean, atol=1e-12
  )
  np.testing.assert_allclose(
    found.moments["pool"].covariance, direct.covariance, atol=1e-12
  )


@pytest.mark.parametrize("num", [24, 400])
def test_memory_does_not_grow_with_the_number_of_batches(num):
  net = tiny_network.make(width=500)
  scatter = 500 * 500 * 8  # bytes
  images = image_sets.from_array(np.resize(IMAGES, (num, 8, 8, 3)))
  features.extract(images, net, batch=8, keep=())  # compiles
  tracemalloc.start()
  try:
    features.extract(images, net, batch=8, keep=())
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert peak < 8 * scatter, peak / scatter


@pytest.mark.parametrize("batch, devices", [(1, 1), (5, 1), (8, 8), (64, 4)])
def test_neither_batch_nor_devices_matter(batch, devices):
  found = extract(batch=batch, devices=jax.devices()[:devices])
  whole = extract(batch=24, devices=jax.devices()[:1])
  # The float32 features themselves agree to their last bits.
  same(found, whole, 1e-5)
  for kind in ("pool", "logits"):
    np.testing.assert_allclose(found.kept[kind], whole.kept[kind], atol=1e-5)


@pytest.mark.parametrize("size", [3, 21])
def test_pieces_of_another_size_than_the_batch_do_not_matter(size):
  images = image_sets.ImageSet(
    "drawn", 21, lambda n: (IMAGES[i : i + size] for i in range(0, 21, size))
  )
  found = features.extract(images, tiny_network.make(), batch=8)
  same(found, extract(batch=8))
  np.testing.assert_array_equal(
    found.kept["pool"], extract(batch=8).kept["pool"]
  )


def test_only_what_is_asked_for_is_kept():
  found = extract(batch=8, keep=("pool",), keep_num=7)
  assert set(found.kept) == {"pool"}
  # Of 21 images in order, every third: files come class by class.
  np.testing.assert_array_equal(found.kept["pool"], extract().kept["pool"][::3])
  assert found.moments["pool"].count == 21


def test_progress_ends_at_the_number_of_images():
  calls = []
  extract(batch=8, progress=lambda *a: calls.append(a))
  assert calls == [(8, 21), (16, 21), (21, 21)]


def test_the_digest_follows_the_pixels():
  changed = IMAGES.copy()
  changed[20, 7, 7, 2] ^= 1
  other = features.extract(
    image_sets.from_array(changed), tiny_network.make(), batch=8
  )
  assert other.digest != extract(batch=16).digest


# By the names of the arrays that the reference tools computed.
GOLDEN = {"adm": "tf1", "pytorch_fid": "pytorch_fid", "clean": "clean"}


@pytest.mark.parametrize("mode", preprocess.MODES)
def test_inception_has_the_features_of_its_preprocessing(mode):
  golden = np.load(shared_dir("golden", "evaluation", "inception_s64_s299.npz"))
  net = features.network(inception_weights.load("random:0"), mode)
  assert (net.preprocess, net.weights, net.random) == (mode, "random:0", True)
  images = golden["s64/images_u8_nhwc"][:2]
  found = features.extract(
    image_sets.from_array(images), net, batch=2, devices=jax.devices()[:1]
  )
  errors = {}
  for name in preprocess.MODES:
    expected = golden[f"s64/{GOLDEN[name]}/pool3"][:2]
    error = np.abs(found.kept["pool"] - expected).max()
    errors[name] = float(error / np.abs(expected).max())
  assert errors.pop(mode) < 1e-5
  assert min(errors.values()) > 1e-3, errors


def test_an_unknown_preprocessing_is_named():
  weights = inception_weights.Weights({}, "random:0", False)
  with pytest.raises(ValueError, match="not one of adm"):
    features.network(weights, "bilinear")


def test_features_that_are_not_finite_are_named():
  net = tiny_network.make()
  net = features.Network(net.params * np.nan, net.apply, "adm", "x", False)
  with pytest.raises(moments.FeatureError, match="not finite"):
    features.extract(image_sets.from_array(IMAGES), net)


WORKER = """
import sys, json
import jax
index, port, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(f"127.0.0.1:{port}", 2, index,
                           initialization_timeout=60)
import numpy as np
from jax.experimental import multihost_utils
from evaluation import features, image_sets
from tests.evaluation import tiny_network
gather = multihost_utils.process_allgather
def small(x):
  # The moments of all processes would lie on every device.
  assert x.nbytes <= 64, x.nbytes
  return gather(x)
multihost_utils.process_allgather = small
images = np.random.RandomState(0).randint(0, 256, (21, 8, 8, 3), np.uint8)
found = features.extract(
  image_sets.from_array(images), tiny_network.make(), batch=4, keep_num=7)
np.savez(f"{out}/{index}.npz", pool=found.kept["pool"],
         mean=found.moments["pool"].mean,
         scatter=found.moments["pool"].scatter,
         spatial=found.moments["spatial"].scatter)
images = {0: images, 1: images[:, :4]}[index]
try:
  features.extract(image_sets.from_array(images), tiny_network.make(), batch=4)
  assert False, "images of two sizes"
except image_sets.ImageSetError as error:
  assert "4 x 8 and 8 x 8" in str(error), error
def read(start, stop):
  if start == 4:  # of the second process
    raise image_sets.ImageSetError("a broken picture")
  return np.zeros((stop - start, 8, 8, 3), np.uint8)
try:
  broken = image_sets.seekable("broken", 21, read)
  features.extract(broken, tiny_network.make(), batch=4)
  assert False, "a broken picture"
except image_sets.ImageSetError as error:
  assert "a broken picture" in str(error), error
json.dump([found.digest, found.count], open(f"{out}/{index}.json", "w"))
"""


def test_two_processes_give_the_same_moments_as_one(tmp_path):
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
  workers = [
    subprocess.Popen(
      [sys.executable, "-c", WORKER, str(i), str(port), str(tmp_path)],
      cwd=ROOT,
      env=environment,
      stderr=subprocess.PIPE,
    )
    for i in range(2)
  ]
  try:
    for worker in workers:
      _, errors = worker.communicate(timeout=120)
      assert worker.returncode == 0, errors.decode()[-2000:]
  finally:
    for worker in workers:
      worker.kill()
  whole = extract(batch=8)
  for i in range(2):
    found = np.load(tmp_path / f"{i}.npz")
    expected = whole.kept["pool"][::3]
    np.testing.assert_allclose(found["pool"], expected, atol=1e-5)
    expected = whole.moments["pool"]
    np.testing.assert_allclose(found["mean"], expected.mean, atol=1e-6)
    np.testing.assert_allclose(found["scatter"], expected.scatter, atol=1e-5)
    assert found["scatter"].dtype == np.float64
    digest = json.loads((tmp_path / f"{i}.json").read_text())
    assert digest == [whole.digest, 21]
