import json
import types

import numpy as np
import pytest

from benchmarks import inception
from tests.evaluation import tiny_network


@pytest.mark.parametrize("error, status", [(2e-6, 0), (5e-5, 1)])
def test_networks_that_disagree_fail(monkeypatch, capsys, error, status):
  net = tiny_network.make()
  monkeypatch.setattr(inception.features, "network", lambda *_: net)
  monkeypatch.setattr(
    inception.inception_weights,
    "load",
    lambda _: types.SimpleNamespace(params=None),
  )

  def theirs(images):
    pool = np.array(net.apply(net.params, images)["pool"])
    pool[0, 0] += error * np.abs(pool).max()
    return pool

  monkeypatch.setattr(
    inception.inception_torch, "make", lambda params, mode: theirs
  )
  options = ["--images=8", "--batch=8", "--side=8", "--repeats=1"]
  assert inception.main(options) == status
  found = json.loads(capsys.readouterr().out)
  assert found["relative_difference"] == pytest.approx(error, rel=0.3)
