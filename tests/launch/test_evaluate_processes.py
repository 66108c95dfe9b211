"""The evaluation of two processes is that of one, commands and files alike."""

import json
import os
import shutil

import numpy as np
import pytest

from evaluation import reference, report
from launch import tasks, train
from tests.launch import processes, toy

TOY = os.path.abspath(toy.__file__)
IMAGES = np.random.RandomState(0).randint(0, 256, (2, 21, 8, 8, 3), np.uint8)

# Every word of the command line is a command; all join the others only once.
_MAIN = """
import os, shlex, sys, time
import jax.numpy as jnp
from evaluation import generation
from launch import evaluate, run_scores, scores, setup, statistics, tasks
from tests.evaluation import tiny_network
from tests.launch import toy
def reconstruct(self, state, batch):
  grey = jnp.clip(jnp.rint((batch["grey"] + 2.56) * 50), 0, 255)
  shape = (len(grey), 8, 8, 3)
  return jnp.broadcast_to(grey[:, None, None, None], shape).astype("uint8")
toy.Toy.reconstruct = reconstruct
# The disk is slow, and the second process sees it late.
write = generation._write_part
def write_late(*arguments):
  time.sleep(1)
  write(*arguments)
generation._write_part = write_late
if os.environ.get("JAX_PROCESS_ID") == "1":
  run_scores._oldest = lambda *_: -1
  run_scores._ended = lambda workdir: False
tasks.ADAPTERS["toy"] = "tests.launch.toy"
scores.open_network = lambda source, mode: tiny_network.make(source, mode)
mains = {"evaluate": evaluate.main, "statistics": statistics.main}
for command in sys.argv[1:]:
  name, *words = shlex.split(command)
  code = mains[name](words)
  if code:
    sys.exit(code)
  setup.distributed = lambda platform: True
"""


def _scores(path):
  return report.read(path)["scores"]


def _moments(path):
  found = reference.load(path)
  return [found.pool.mean, found.pool.covariance, found.spatial.covariance]


def _all_close(found, expected):
  for left, right in zip(found, expected, strict=True):
    np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


def test_two_processes_score_sets_as_one(tmp_path):
  for name, images in zip("ab", IMAGES):
    np.savez(tmp_path / f"{name}.npz", images)
  sets = f"--samples={tmp_path / 'a.npz'} --reference={tmp_path / 'b.npz'}"
  more = "--inception=random:0 --batch=4"
  for name, run in (("one", processes.alone), ("two", processes.pair)):
    out = tmp_path / name
    outputs = run(
      _MAIN,
      [
        f"evaluate {sets} {more} --out={out}.json",
        f"statistics --images={tmp_path / 'a.npz'} {more} --out={out}.npz",
      ],
    )
    # Process 0 alone speaks.
    assert [f"{out}.json" in x for x in outputs] == [True, False][
      : len(outputs)
    ]
  expected = _scores(tmp_path / "one.json")
  assert len(expected) == 9
  assert _scores(tmp_path / "two.json") == pytest.approx(expected, rel=1e-4)
  _all_close(_moments(tmp_path / "two.npz"), _moments(tmp_path / "one.npz"))


@pytest.mark.slow
def test_two_processes_score_a_run_as_one(tmp_path, monkeypatch):
  monkeypatch.setitem(tasks.ADAPTERS, "toy", "tests.launch.toy")
  data = toy.write_data(tmp_path / "data.npz")
  flags = [f"--config={TOY}:{data}", f"--workdir={tmp_path / 'one'}"]
  flags += ["--no_tensorboard", "--config.train.num_steps=4"]
  assert train.main(flags) == 0
  shutil.copytree(tmp_path / "one", tmp_path / "two")
  metrics = "fid,sfid,is,kid,precision_recall,nearest,per_class,reconstruction"
  more = "--inception=random:3 --num_samples=50 --batch=8"
  for name, run in (("one", processes.alone), ("two", processes.pair)):
    workdir = tmp_path / name
    run(
      _MAIN,
      [
        f"evaluate --workdir={workdir} --metrics={metrics} --watch {more}",
        f"evaluate --workdir={workdir} --metrics=likelihood",
      ],
    )
  one, two = (tmp_path / name / "eval" for name in ("one", "two"))
  results = sorted(path.relative_to(one) for path in one.rglob("*-*.json"))
  assert len(results) == 3
  for name in results:
    left, right = (json.loads((x / name).read_text()) for x in (one, two))
    assert left["environment"]["devices"]["processes"] == 1
    assert right["environment"]["devices"]["processes"] == 2
    assert right["values"] == pytest.approx(left["values"], rel=1e-4)
  references = sorted(one.glob("reference-*.npz"))
  assert [x.name.split("-")[1] for x in references] == ["train", "validation"]
  for kept in references:
    _all_close(_moments(two / kept.name), _moments(kept))
  parts = sorted(one.rglob("part-*.npz"))
  assert parts
  for part in parts:
    left, right = (np.load(x) for x in (part, two / part.relative_to(one)))
    for array in left.files:
      np.testing.assert_array_equal(left[array], right[array])
  for name in ("4-nearest.png", "4-per-class.png"):
    assert (tmp_path / "two" / "samples" / name).is_file()
