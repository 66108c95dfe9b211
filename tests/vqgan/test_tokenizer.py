"""Tokenizer: round trips, fingerprints, and vocabularies of used codes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.vqgan import tiny
from vqgan import quantizer, tokenizer


@pytest.fixture(scope="module")
def made():
  """A tokenizer, its parameters and rows to encode."""
  task = tiny.make_task(critic=None)
  params = tiny.make_state(task).params["generator"]
  return tokenizer.VQGAN(task), params, tiny.make_batch(task)["image"]


def test_codes_decode_to_the_reconstruction(made):
  coder, params, rows = made
  assert (coder.num_codes, coder.factor, coder.grid) == (16, 2, (8, 8))
  codes = tiny.jit(coder.encode)(params, rows)
  assert codes.shape == (4, 8, 8) and codes.dtype == jnp.int32
  images = tiny.jit(coder.decode)(params, codes)
  assert images.shape == (4, 16, 16, 3) and images.dtype == jnp.uint8
  state = dataclasses.make_dataclass("State", ["sampling_params"])
  expected = tiny.jit(
    lambda generator: coder.task.reconstruct(
      state({"generator": generator}), {"image": rows}
    )
  )(params)
  difference = images.astype(int) - expected.astype(int)
  assert np.abs(difference).max() <= 1
  z = coder.embed(params, codes)
  np.testing.assert_array_equal(
    z, np.asarray(params["quantizer"]["codebook"])[codes]
  )


def test_codes_are_found_by_exact_products(made):
  coder, params, rows = made
  program = str(jax.make_jaxpr(coder.encode)(params, rows))
  products = program.count("conv_general_dilated[") + program.count(
    "dot_general["
  )
  assert products > 4
  assert (
    program.count("precision=(Precision.HIGHEST")
    + program.count("precision=Precision.HIGHEST")
    == products
  )


def test_fingerprint_tells_parameters_and_settings_apart(made):
  coder, params, _ = made
  print_ = coder.fingerprint(params)
  assert print_ == coder.fingerprint(jax.device_get(params))
  assert len(print_) == 16
  bias = params["before"]["bias"] + 1e-3
  changed = {**params, "before": {**params["before"], "bias": bias}}
  assert coder.fingerprint(changed) != print_
  unit = tiny.make_task(
    critic=None, quantizer=quantizer.Nearest(16, 3, unit=True)
  )
  assert tokenizer.VQGAN(unit).fingerprint(params) != print_
  shape = dataclasses.replace(tiny.SHAPE, remat=True)
  same = tiny.make_task(critic=None, shape=shape)
  assert tokenizer.VQGAN(same).fingerprint(params) == print_


def test_fingerprint_tells_precisions_apart_as_codes_do(made):
  coder, params, rows = made
  coarse = tokenizer.VQGAN(tiny.make_task(critic=None, dtype="bfloat16"))
  codes = [tiny.jit(x.encode)(params, rows) for x in (coder, coarse)]
  assert (codes[0] != codes[1]).any()
  assert coarse.fingerprint(params) != coder.fingerprint(params)


def test_used_codes_are_renumbered_and_others_replaced(made):
  coder, params, rows = made
  codes = np.asarray(tiny.jit(coder.encode)(params, rows))
  used = np.unique(codes)[1::2]
  small, fewer = tokenizer.keep_codes(coder, params, used)
  assert small.num_codes == len(used)
  again = np.asarray(tiny.jit(small.encode)(fewer, rows))
  kept = np.isin(codes, used)
  np.testing.assert_array_equal(used[again[kept]], codes[kept])
  assert kept.any() and not kept.all()
  with pytest.raises(ValueError, match=r"ascend within 0\.\.15"):
    tokenizer.keep_codes(coder, params, np.array([3, 3]))
  with pytest.raises(ValueError, match=r"ascend within 0\.\.15"):
    tokenizer.keep_codes(coder, params, np.array([3, 16]))


def test_a_gumbel_vocabulary_shrinks_with_its_logits(made):
  _, params, _ = made
  task = tiny.make_task(critic=None, quantizer=quantizer.Gumbel(16, 3))
  logits = {"kernel": jnp.arange(48.0).reshape(3, 16), "bias": jnp.arange(16.0)}
  codes = {"codebook": jnp.arange(48.0).reshape(16, 3), "logits": logits}
  small, fewer = tokenizer.keep_codes(
    tokenizer.VQGAN(task), {**params, "quantizer": codes}, np.array([2, 9])
  )
  assert small.num_codes == 2
  assert fewer["quantizer"]["logits"]["bias"].tolist() == [2, 9]
  assert fewer["quantizer"]["logits"]["kernel"].shape == (3, 2)
  assert fewer["quantizer"]["codebook"].shape == (2, 3)
  finite = tiny.make_task(critic=None, quantizer=quantizer.Finite((4, 4)))
  with pytest.raises(ValueError, match="no codebook"):
    tokenizer.keep_codes(tokenizer.VQGAN(finite), {}, np.array([0]))
