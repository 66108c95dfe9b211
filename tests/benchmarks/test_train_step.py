"""The benchmark of training steps: counts, never a time."""

import json

import jax
import numpy as np

from benchmarks import train_step, turns
from dctransformer import chunks


def test_smoke_run_compiles_once_and_counts_every_element(capsys):
  assert train_step.main(["--smoke"]) == 0
  (line,) = [
    json.loads(x) for x in capsys.readouterr().out.splitlines() if x[0] == "{"
  ]
  assert line["compilations"] == 1 and line["compilations_later"] == 0
  assert line["elements"] == line["batch"] * line["chunk_len"]
  assert line["temp_ratio"] == line["flops_ratio"] == 1


def test_lists_grow_with_the_area_and_the_chunk_does_not():
  small, large = (train_step.make_task(side, 32, 16, 1) for side in (32, 128))
  assert large.plan.max_elements == 16 * small.plan.max_elements
  assert large.plan.chunk_len == small.plan.chunk_len
  batch = train_step.make_batch(large, 3)
  assert large.batch_spec(3) == {
    name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch.items()
  }
  count = chunks.num_chunks(large.plan, batch["length"], batch["total"])
  assert (np.asarray(batch["chunk"]) < np.asarray(count)).all()
  rank = batch["channel"].astype(np.int32) * large.codec.num_positions
  assert (np.diff(rank + batch["position"], axis=1) > 0).all()


def test_compilations_are_counted_only_inside():
  program = jax.jit(lambda x: x * 3)
  with turns.count_compilations() as count:
    program(np.ones(3))
    program(np.ones(3))
    assert count[0] == 1
    program(np.ones(4))
  assert count[0] == 2
  program(np.ones(5))
  assert count[0] == 2
