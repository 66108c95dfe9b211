"""P1: a run killed anywhere goes on as if nothing had happened."""

import numpy as np
import pytest

from tests.training import driver

STEPS = 20
QUICK = (("half a manifest", 2), ("half a line", 7), ("while saving", 1))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
  """The metrics and the final state of a run that nobody disturbs."""
  return _finish(tmp_path_factory.mktemp("uninterrupted"))


def _finish(folder):
  spec = {"workdir": str(folder / "run"), "steps": STEPS}
  spec["out"] = str(folder / "state.npz")
  status, output = driver.run(spec)
  assert status == 0, output
  return driver.lines(folder / "run"), dict(np.load(spec["out"]))


def _kill(folder, **how):
  spec = {"workdir": str(folder / "run"), "steps": STEPS, **how}
  status, output = driver.run(spec)
  assert status in (-9, 0), output
  return status


def _assert_same(found, expected):
  assert found[0] == expected[0]
  assert found[1].keys() == expected[1].keys()
  for name, array in expected[1].items():
    assert found[1][name].tobytes() == array.tobytes(), name


def test_three_kills_leave_the_run_bit_identical(tmp_path, uninterrupted):
  for point, count in QUICK:
    assert _kill(tmp_path, kill=(point, count)) == -9, point
  _assert_same(_finish(tmp_path), uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("point", driver.POINTS)
def test_kill_at_each_point_leaves_the_run_bit_identical(
  tmp_path, uninterrupted, point
):
  died = [_kill(tmp_path, kill=(point, count)) for count in (2, 1)]
  assert -9 in died, f"{point} is never passed"
  _assert_same(_finish(tmp_path), uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_kills_at_random_leave_the_run_bit_identical(
  tmp_path, uninterrupted, seed
):
  draw = np.random.default_rng(seed)
  for _ in range(5):
    _kill(
      tmp_path,
      kill_after=draw.uniform(1.5, 6.0),
      seconds_a_step=0.1,
    )
  _assert_same(_finish(tmp_path), uninterrupted)
