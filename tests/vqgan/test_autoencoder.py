"""Encoder and decoder: sizes, placement of attention, padding, memory."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqgan import autoencoder, quantizer

TINY = autoencoder.Shape(
  channels=8,
  multipliers=(1, 2),
  num_blocks=1,
  attention=(8,),
  resolution=16,
  z_channels=8,
)


def _size(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _shapes(model, side):
  pixels = jnp.zeros((1, side, side, 3))
  return jax.eval_shape(model.init, jax.random.key(0), pixels)["params"]


@pytest.mark.parametrize(
  "num_codes, total", [(1024, 72_141_699), (16384, 76_073_859)]
)
def test_paper_sizes_have_the_published_parameter_counts(num_codes, total):
  model = autoencoder.Autoencoder(
    autoencoder.Shape(), quantizer.Nearest(num_codes, 256)
  )
  shapes = _shapes(model, 256)
  assert _size(shapes["encoder"]) == 29_298_176
  assert _size(shapes["decoder"]) == 42_449_795
  assert _size(shapes) == total


def test_attention_is_placed_by_the_nominal_resolution():
  model = autoencoder.Autoencoder(TINY, quantizer.Nearest(16, 4))
  trees = [jax.tree.structure(_shapes(model, side)) for side in (8, 16, 32)]
  assert trees[0] == trees[1] == trees[2]
  names = _shapes(model, 16)["encoder"]
  assert "down_1_attention_0" in names and "down_0_attention_0" not in names


def test_any_size_that_the_factor_divides_is_reconstructed():
  model = autoencoder.Autoencoder(TINY, quantizer.Nearest(16, 4))
  pixels = jnp.zeros((2, 12, 6, 3))
  params = jax.eval_shape(model.init, jax.random.key(0), pixels)
  image, _, z, quantized = jax.eval_shape(model.apply, params, pixels)
  assert image.shape == pixels.shape
  assert z.shape == (2, 6, 3, 4) and quantized.codes.shape == (2, 6, 3)
  with pytest.raises(ValueError, match=r"12 x 7 pixels.*multiples of 2"):
    jax.eval_shape(model.apply, params, jnp.zeros((1, 12, 7, 3)))
  with pytest.raises(
    ValueError, match=r"1 channels, the model 3: set data\.ch"
  ):
    jax.eval_shape(model.apply, params, jnp.zeros((1, 12, 6, 1)))


def test_decode_of_tokens_is_the_reconstruction():
  model = autoencoder.Autoencoder(TINY, quantizer.Nearest(16, 4))
  pixels = jax.random.uniform(jax.random.key(1), (1, 8, 8, 3))
  params = jax.jit(model.init)(jax.random.key(0), pixels)

  @jax.jit
  def both(params, pixels):
    codes = model.apply(params, pixels, method="tokenize")
    decoded = model.apply(params, codes, method="decode")
    return model.apply(params, pixels)[0], decoded

  image, decoded = both(params, pixels)
  np.testing.assert_allclose(decoded, image, atol=1e-5)


def test_downsampling_pads_right_and_below_only():
  class Down(nn.Module):
    @nn.compact
    def __call__(self, x):
      return autoencoder._downsample(x, jnp.float32, "conv")

  x = jnp.zeros((1, 8, 8, 1))
  params = Down().init(jax.random.key(0), x)
  gradient = jax.jacobian(lambda x: Down().apply(params, x)[0, :, :, 0])(x)
  reads = np.asarray(gradient[:, :, 0, :, :, 0] != 0)  # [4, 4, 8, 8]
  rows = reads.any((1, 3))  # [4, 8]: what each row of the output reads
  for i in range(4):
    expected = [r for r in range(2 * i, 2 * i + 3) if r < 8]
    assert list(np.flatnonzero(rows[i])) == expected


def test_group_norm_equals_flax_and_keeps_precision_at_a_large_mean():
  x = jax.random.normal(jax.random.key(0), (2, 4, 4, 12))
  ours = autoencoder.GroupNorm(3)
  params = ours.init(jax.random.key(1), x)
  reference = nn.GroupNorm(3, epsilon=1e-6)
  np.testing.assert_allclose(
    ours.apply(params, x), reference.apply(params, x), atol=1e-5
  )
  np.testing.assert_allclose(
    ours.apply(params, x + 1000), ours.apply(params, x), atol=2e-3
  )


def test_groups_keep_a_least_number_of_channels():
  assert autoencoder.Shape().groups(128) == 32
  assert autoencoder.Shape().groups(32) == 8
  assert autoencoder.Shape(norm_least=1).groups(32) == 32
  assert autoencoder.Shape().groups(36) == 9
  assert autoencoder.Shape().groups(2) == 1


def test_attention_over_many_positions_is_taken_in_pieces(monkeypatch):
  block = autoencoder.AttentionBlock(autoencoder.Shape(channels=8))
  x = jax.random.normal(jax.random.key(0), (2, 3, 4, 8))
  params = block.init(jax.random.key(1), x)
  whole = block.apply(params, x)
  monkeypatch.setattr(autoencoder, "_QUERIES", 5)
  seen, attend = [], autoencoder.attention.attend

  def spy(q, *rest):
    seen.append(q.shape[1])
    return attend(q, *rest)

  monkeypatch.setattr(autoencoder.attention, "attend", spy)
  np.testing.assert_allclose(block.apply(params, x), whole, atol=1e-6)
  assert seen and max(seen) <= 5


def test_remat_changes_no_gradient():
  pixels = jax.random.uniform(jax.random.key(1), (1, 4, 4, 3))
  params, gradients = None, []
  for remat in (False, True):
    shape = autoencoder.Shape(
      channels=4,
      multipliers=(1, 1),
      num_blocks=1,
      attention=(2,),
      resolution=4,
      z_channels=4,
      remat=remat,
    )
    model = autoencoder.Encoder(shape)
    if params is None:
      params = jax.jit(model.init)(jax.random.key(0), pixels)
    loss = lambda p, m=model: jnp.sum(m.apply(p, pixels, train=True) ** 2)
    gradients.append(jax.jit(jax.grad(loss))(params))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    *gradients,
  )
