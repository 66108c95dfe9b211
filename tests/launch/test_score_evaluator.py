import json

import ml_collections
import numpy as np
import pytest

from evaluation import reference, report
from launch import evaluate, scores, tasks, train
from tests.evaluation import tiny_network
from tests.launch import toy


@pytest.fixture
def run(tmp_path, monkeypatch):
  monkeypatch.setitem(tasks.ADAPTERS, "toy", "tests.launch.toy")
  monkeypatch.setattr(
    scores,
    "open_network",
    lambda source, mode: tiny_network.make(weights=source, mode=mode),
  )
  config = toy.get_config(str(toy.write_data(tmp_path / "data.npz")))
  config.train.num_steps = 8
  config.eval.scores = ml_collections.ConfigDict(
    {
      "every": 4,
      "num": 20,
      "batch": 16,
      "inception": "random:0",
      "preprocess": "adm",
      "metrics": "fid,precision_recall",
    }
  )
  train.train(config.lock(), tmp_path / "run", write_tensorboard=False)
  return tmp_path / "run"


def test_training_scores_its_samples_on_a_schedule(run, capsys):
  lines = [json.loads(x) for x in (run / "metrics.jsonl").open()]
  found = {
    line["step"]: line["eval/unofficial_frechet_adm_20"]
    for line in lines
    if "eval/unofficial_frechet_adm_20" in line
  }
  assert sorted(found) == [4, 8] and all(np.isfinite(list(found.values())))
  kept = list((run / "eval").glob("reference-train-full-adm-*.npz"))
  assert len(kept) == 1 and reference.load(kept[0]).metadata["count"] == 40
  # launch.evaluate compares with the same statistics.
  command = [f"--workdir={run}", "--metrics=fid", "--num_samples=20"]
  assert evaluate.main([*command, "--inception=random:0"]) == 0
  path = run / "eval" / "8" / "scores-20-adm-seed0.json"
  scored = report.read(path)["scores"]
  assert set(scored) == {"unofficial_frechet_adm_20"}
