"""What `best` asks of a run whose evaluators do not always succeed."""

import types

import pytest

from tests.training import driver
from tests.training.test_loop import train
from training import rundir


class _Scores(driver.Evaluator):
  """Gives no scores at some steps."""

  broken = (4,)

  def run(self, state, step):
    if step in self.broken:
      return types.SimpleNamespace(scalars={}, images={}, failed=True)
    return driver.Result({"eval/fid": float(step)}, {})


class _Bits(driver.Evaluator):
  def run(self, state, step):
    return driver.Result({"eval/bits": float(step)}, {})


def _evaluators():
  return [_Bits("likelihood", 4), _Scores("scores", 4)]


def test_a_failed_evaluator_might_have_given_the_best(tmp_path, mesh):
  train(tmp_path, mesh, evaluators=_evaluators(), best="eval/fid")
  assert rundir.RunDirectory(tmp_path).best("eval/fid") == 8
  assert rundir.RunDirectory(tmp_path).evaluation(4).keys() == {"likelihood"}


def test_a_restart_tries_a_failed_evaluator_again(tmp_path, mesh):
  evaluators = _evaluators()
  train(tmp_path, mesh, evaluators=evaluators, best="eval/fid", stop_at=4)
  evaluators[1].broken = ()
  train(tmp_path, mesh, evaluators=evaluators, best="eval/fid", stop_at=4)
  assert rundir.RunDirectory(tmp_path).best("eval/fid") == 4


def test_a_misspelt_best_is_found_once_all_succeed(tmp_path, mesh):
  with pytest.raises(ValueError, match="'eval/fit' is no scalar"):
    train(tmp_path, mesh, evaluators=_evaluators(), best="eval/fit")
  assert rundir.RunDirectory(tmp_path).status()["step"] == 8
