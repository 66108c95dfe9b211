"""DCTransformer: who may know what, parameter counts, initial loss."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dctransformer import chunks, dct, model, sparse
from layers import transformer
from tests.dctransformer import tiny


@pytest.fixture(scope="module")
def setup():
  """Return (model, params, chunk, coefficients, run): chunk 1 of two lists."""
  net = tiny.make_model()
  batch = tiny.make_batch([1, 1])
  elements = sparse.Elements(
    *(batch[n].astype(jnp.int32) for n in ("channel", "position", "value")),
    batch["length"],
    batch["total"],
  )
  chunk = chunks.slice_chunk(tiny.CODEC, tiny.PLAN, elements, batch["chunk"])
  coefficients = sparse.to_coefficients(tiny.CODEC, elements, chunk.start)
  scale = jnp.full((tiny.CODEC.num_channels,), 2.0)
  args = (scale, batch["label"], batch["blocks"])
  params = tiny.init_model(net, 0, chunk, coefficients, *args)
  run = jax.jit(lambda chunk: net.apply(params, chunk, coefficients, *args))
  return net, params, chunk, coefficients, args, run


def _with_element(chunk, slot, **fields):
  """Change target element `slot`, and the input that the next slot sees."""
  changes = {}
  for name, value in fields.items():
    target = getattr(chunk, name).at[:, slot].set(value)
    previous = getattr(chunk, f"previous_{name}").at[:, slot + 1].set(value)
    changes |= {name: target, f"previous_{name}": previous}
  return chunk.replace(**changes)


def _moved(a, b):
  """Say which slots' logits differ between two runs, bool [t]."""
  return np.asarray(jnp.abs(a - b).max(axis=(0, 2)) > 1e-7)


# A field's own logits must not see it; later fields of the slot must.
@pytest.mark.parametrize(
  ("field", "value", "first"),
  [
    ("channel", 100, {"channel": 1, "position": 0, "value": 0}),
    ("position", 13, {"channel": 1, "position": 1, "value": 0}),
    ("value", 7, {"channel": 1, "position": 1, "value": 1}),
  ],
)
def test_element_moves_only_what_follows_it(setup, field, value, first):
  *_, chunk, _, _, run = setup
  slot = 6
  before = run(chunk)
  after = run(_with_element(chunk, slot, **{field: value}))
  for name, offset in first.items():
    moved = _moved(getattr(before, name), getattr(after, name))
    assert not moved[: slot + offset].any(), name
    assert moved[slot + offset :].all(), name


def test_gradient_of_earlier_logits_by_later_inputs_is_zero(setup):
  net, params, chunk, coefficients, args, _ = setup
  slot = 5
  t = chunk.channel.shape[1]

  def logits(nudge):
    """Nudge the embedded inputs of each slot by a vector."""

    def interceptor(call, call_args, kwargs, context):
      out = call(*call_args, **kwargs)
      if context.method_name == "embed_previous":
        out = out + nudge
      return out

    with nn.intercept_methods(interceptor):
      out = net.apply(params, chunk, coefficients, *args)
    return sum(x[:, slot].sum() for x in (out.channel, out.position, out.value))

  width = net.shape.width
  gradient = jax.jit(jax.grad(logits))(jnp.zeros((2, t, width)))
  size = jnp.abs(gradient).max(axis=(0, 2))
  assert (size[slot + 1 :] == 0).all()
  assert (size[: slot + 1] > 0).all()


def test_padding_on_the_right_changes_nothing(setup):
  *_, chunk, _, _, run = setup
  cut = 9
  keep = jnp.arange(chunk.channel.shape[1]) < cut
  hidden = chunk.replace(visible=chunk.visible & keep)
  scrambled = _with_element(hidden, cut + 1, channel=3, position=2, value=-4)
  one, other = run(hidden), run(scrambled)
  for name in ("channel", "position", "value"):
    a, b = getattr(one, name)[:, :cut], getattr(other, name)[:, :cut]
    assert jnp.array_equal(a, b)


def test_coefficients_reach_every_slot(setup):
  net, params, chunk, coefficients, args, run = setup
  forward = jax.jit(lambda c: net.apply(params, chunk, c, *args))
  other = forward(coefficients.at[:, 1, 1, 0].add(3))
  before = run(chunk)
  for name in ("channel", "position", "value"):
    assert _moved(getattr(before, name), getattr(other, name)).all()


def test_closed_gates_and_small_heads_start_near_uniform(setup):
  *_, chunk, coefficients, args, _ = setup
  net = tiny.make_model(gate=0.0)
  params = tiny.init_model(net, 1, chunk, coefficients, *args)
  out = jax.jit(net.apply)(params, chunk, coefficients, *args)
  codec = tiny.CODEC
  for logits, size in (
    (out.channel, codec.num_channels + 1),
    (out.position, codec.num_positions),
    (out.value, codec.num_values),
  ):
    entropy = -jnp.sum(jax.nn.softmax(logits) * jax.nn.log_softmax(logits), -1)
    assert jnp.allclose(entropy, math.log(size), atol=0.05)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_acts_only_in_training(setup, dropout):
  _, params, chunk, coefficients, args, _ = setup
  net = tiny.make_model(dropout=dropout)
  apply = jax.jit(net.apply, static_argnames="train")
  run = lambda train, seed: (
    apply(
      params,
      chunk,
      coefficients,
      *args,
      train=train,
      rngs={"dropout": jax.random.key(seed)},
    ).value
  )
  assert jnp.array_equal(run(False, 0), run(False, 1))
  assert jnp.array_equal(run(True, 0), run(True, 1)) == (dropout == 0)


def test_remat_and_scan_keep_values_and_gradients(setup):
  _, params, chunk, coefficients, args, _ = setup

  def loss(params, remat):
    net = tiny.make_model(remat=remat)
    out = net.apply(params, chunk, coefficients, *args)
    return jnp.sum(out.value**2) + jnp.sum(out.channel**2)

  plain, remat = (
    jax.jit(jax.value_and_grad(lambda p, r=r: loss(p, r)))(params)
    for r in (False, True)
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    plain,
    remat,
  )


def test_bfloat16_compute_keeps_float32_params_and_logits(setup):
  _, params, chunk, coefficients, args, run = setup
  net = tiny.make_model(dtype=jnp.bfloat16)
  out = jax.jit(net.apply)(params, chunk, coefficients, *args)
  exact = run(chunk)
  assert out.value.dtype == jnp.float32
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(params))
  np.testing.assert_allclose(out.value, exact.value, atol=0.05)


def test_flops_match_the_compiler_on_an_unscanned_model(setup):
  # cost_analysis counts a scanned body once, so every run has one block.
  _, _, chunk, coefficients, args, _ = setup
  codec = dct.Codec(block=8, quality=50, rows=4, cols=4, max_value=32)
  net = model.DCTransformer(
    codec,
    tiny.PLAN,
    transformer.Shape(width=64, num_heads=2),
    model.Layout((1,), (2,), (1,), (2,)),
  )
  params = tiny.init_model(net, 0, chunk, coefficients, *args)
  forward = jax.jit(lambda p: net.apply(p, chunk, coefficients, *args))
  counted = forward.lower(params).compile().cost_analysis()["flops"]
  # A third of a training step; the compiler adds softmax, norms, GELU and
  # does not halve causal attention.
  analytic = model.flops(net, 2) / 3
  assert 0.75 < analytic / counted < 1.05


def test_unequal_layouts_share_one_scanned_body():
  layout = model.Layout((2, 2, 2), (2, 2, 4), (1,), (1,))
  net = dataclasses.replace(tiny.make_model(), layout=layout)
  batch = tiny.make_batch([0])
  t = tiny.make_task()
  params = jax.eval_shape(
    lambda key, *args: net.init(key, *t._inputs(batch), *args),
    jax.random.key(0),
    jnp.ones((192,)),
    batch["label"],
    batch["blocks"],
  )["params"]
  assert set(params["encoder"]) == {"runs_0"}
  assert set(params["channel_decoder"]) == {"runs_0", "runs_1"}
  gates = params["encoder"]["runs_0"]["attend_self"]["gate"]
  assert gates.shape == (3,)
