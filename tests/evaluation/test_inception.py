import functools
import json

import jax
import numpy as np
import pytest
from flax import linen as nn

from evaluation import inception, inception_weights, preprocess
from tests.shared import shared_dir

# Two correct float32 implementations agree to this, relative to the maximum.
TOLERANCE = 1e-5


@functools.cache
def golden():
  return np.load(shared_dir("golden", "evaluation", "inception_s64_s299.npz"))


@functools.cache
def weights():
  return inception_weights.load("random:0").params


@functools.cache
def forward():
  return jax.jit(inception.features)


def compare(found, size, mode="tf1"):
  """Returns the errors relative to the maximum, by kind of feature."""
  names = {"pool": "pool3", "spatial": "sfid2023", "logits": "logits_unbiased"}
  errors = {}
  for kind, name in names.items():
    key = f"{size}/{mode}/{name}"
    if key in golden().files:
      expected = golden()[key][: len(found[kind])]
      error = np.abs(found[kind] - expected).max() / np.abs(expected).max()
      errors[kind] = float(error)
  return errors


@pytest.mark.parametrize(
  "size, mode",
  [
    ("s299", "adm"),
    ("s64", "adm"),
    ("s64", "pytorch_fid"),
    ("s64", "clean"),
    ("s299", "pytorch_fid"),
  ],
)
def test_features_equal_the_reference(size, mode):
  images = golden()[f"{size}/images_u8_nhwc"][:2]
  found = forward()(weights(), preprocess.prepare(images, mode))
  errors = compare(found, size, "tf1" if mode == "adm" else mode)
  assert errors and max(errors.values()) < TOLERANCE, errors


def counted(x):
  return nn.avg_pool(x, (3, 3), padding=((1, 1), (1, 1)))


MUTATIONS = {
  "average in Mixed_7c": ("_last_pool", inception._average_pool, "pool"),
  "padding counted": ("_average_pool", counted, "pool"),
  "Mixed_6e for sFID": ("_SPATIAL_BLOCK", "Mixed_6e", "spatial"),
  "BatchNorm eps 1e-5": ("_BATCHNORM_EPSILON", 1e-5, "pool"),
}


@pytest.mark.parametrize("mutation", list(MUTATIONS))
def test_a_wrong_network_disagrees_with_the_reference(monkeypatch, mutation):
  name, value, kind = MUTATIONS[mutation]
  images = golden()["s64/images_u8_nhwc"][:2]
  params = weights()
  monkeypatch.setattr(inception, name, value)
  if name == "_BATCHNORM_EPSILON":
    params = inception.convert(inception_weights.random_tensors(0))
    found = forward()(params, preprocess.prepare(images))
  else:
    apply = jax.jit(lambda p, x: inception.features(p, x))
    found = apply(params, preprocess.prepare(images))
  errors = compare(found, "s64")
  assert errors[kind] > 10 * TOLERANCE, errors


def test_the_names_and_shapes_are_those_of_the_public_file():
  path = shared_dir(
    "golden", "evaluation", "pt_inception_2015_12_05_keys_shapes.json"
  )
  known = {k: tuple(v[:-1]) for k, v in json.loads(path.read_text()).items()}
  ignored = {k for k in known if k.endswith("num_batches_tracked")}
  ours = inception.shapes()
  assert set(known) - ignored - {"fc.bias"} == set(ours)
  assert all(known[name] == shape for name, shape in ours.items())


def test_bad_weights_are_named():
  with pytest.raises(ValueError, match=r"no tensor Conv2d_1a_3x3\.conv"):
    inception.convert({})
  tensors = {k: np.broadcast_to(0.0, v) for k, v in inception.shapes().items()}
  tensors["fc.weight"] = np.zeros((1000, 2048))
  with pytest.raises(ValueError, match=r"\(1000, 2048\), not \(1008, 2048\)"):
    inception.convert(tensors)


def test_pixels_of_another_size_are_refused():
  with pytest.raises(ValueError, match="not"):
    jax.eval_shape(
      inception.features, {}, jax.ShapeDtypeStruct((1, 256, 256, 3), "float32")
    )
