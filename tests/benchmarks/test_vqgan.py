"""The benchmark of VQGAN: counts of one step, never a time."""

import json

import jax
import numpy as np
import optax
import pytest

from benchmarks import vqgan as benchmark
from vqgan import flops


def test_smoke_run_counts_one_backward_pass(capsys):
  assert benchmark.main(["--smoke"]) == 0
  (line,) = [
    json.loads(x) for x in capsys.readouterr().out.splitlines() if x[0] == "{"
  ]
  assert line["fine"] and line["compilations"] <= 1
  # Both norms of the adaptive weight, through the last layer alone.
  layers = line["adaptive_weight_gflops"] / line["last_layer_gflops"]
  assert layers == pytest.approx(2, abs=0.01)
  assert line["adaptive_weight_gflops"] < 0.01 * line["traced_gflops"]


def test_remat_keeps_the_inputs_of_blocks_alone():
  shape = benchmark.autoencoder.Shape(norm_least=1)
  found = benchmark.kept(shape, 256)
  assert found["kept_mib_with_remat"] < 0.4 * found["kept_mib"]
  # The input of every block, and what lies between blocks, in float32.
  inputs = 0
  for i, multiplier in enumerate(shape.multipliers):
    blocks = 2 * shape.num_blocks + 1
    inputs += blocks * (256 >> i) ** 2 * shape.channels * multiplier * 4 / 2**20
  assert inputs < found["kept_mib_with_remat"] < 2.5 * inputs


def test_a_second_backward_pass_would_be_seen():
  made = benchmark.small_task()
  image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
  params = jax.eval_shape(made.model.init, jax.random.key(0), image)

  def twice(params, image):
    """Both gradients by whole backward passes, as autograd.grad would."""
    made_image = lambda p: made.model.apply(p, image)[0]
    one = jax.grad(lambda p: made_image(p).sum())(params)
    other = jax.grad(lambda p: (made_image(p) ** 2).sum())(params)
    return optax.global_norm(one) / optax.global_norm(other)

  both = flops.count(twice, params, image)
  once = flops.count(made.model.apply, params, image)
  spare = 1.1 * made.train_flops(1) - made.train_flops(1)
  assert both - 3 * once > 10 * spare
