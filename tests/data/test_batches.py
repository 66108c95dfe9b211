import numpy as np
import pytest

from data import batches


def test_positions_of_hosts_make_the_global_batch():
  whole = batches.Plan(12, 2, 0, 1)
  hosts = [batches.Plan(12, 2, p, 3) for p in range(3)]
  for step in range(4):
    parts = [
      host.positions(step * host.local_examples, host.local_examples)
      for host in hosts
    ]
    np.testing.assert_array_equal(
      np.concatenate(parts), whole.positions(step * 6, 6)
    )
  np.testing.assert_array_equal(whole.positions(24, 6), np.arange(24, 30))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_slots_partition_the_dataset(count):
  slots = [batches.Plan(8, 1, p, count).slots(29) for p in range(count)]
  found = np.sort(np.concatenate(slots))
  np.testing.assert_array_equal(found, np.arange(29))


@pytest.mark.parametrize(
  "arguments, message",
  [
    ((12, 5, 0, 1), "batch_size 12 must be a multiple of 5"),
    ((12, 1, 0, 8), "8 processes"),
    ((0, 1, 0, 1), "batch_size 0"),
    ((4, 1, 2, 2), "process_index 2"),
  ],
)
def test_sizes_that_do_not_divide_are_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    batches.Plan(*arguments)


def test_rebatch_and_padding_keep_every_row_once():
  rows = [{"x": np.full((r, 3), i)} for i, r in enumerate([1, 4, 2, 7, 1])]
  found = list(batches.padded(batches.rebatch(rows, 4), 4, 5, None))
  assert [len(batch["x"]) for batch in found] == [4] * 5
  real = np.concatenate([batch["x"][batch["mask"]] for batch in found])
  np.testing.assert_array_equal(real, np.concatenate([r["x"] for r in rows]))
  assert [batch["mask"].sum() for batch in found] == [4, 4, 4, 3, 0]


def test_without_rows_the_filler_is_masked():
  filler = lambda: {"x": np.ones([2, 3])}
  (batch,) = batches.padded(iter(()), 4, 1, filler)
  assert batch["x"].shape == (4, 3) and not batch["mask"].any()


def test_rows_of_different_lengths_are_named():
  with pytest.raises(ValueError, match="one leading row axis"):
    batches.num_rows({"x": np.zeros([2]), "y": np.zeros([3])})
  with pytest.raises(ValueError, match="rows_per_example is 3"):
    batches.check_rows({"x": np.zeros([2])}, 3)
