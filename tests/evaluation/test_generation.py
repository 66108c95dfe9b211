import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from evaluation import generation
from tests.launch import processes

ROOT = Path(__file__).resolve().parents[2]


@jax.jit
def draw(indices):
  key = jax.random.key(3)
  keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(indices)
  images = jax.vmap(lambda k: jax.random.randint(k, (4, 4, 3), 0, 256))(keys)
  return {"images": images.astype("uint8"), "labels": indices % 10}


def digests(folder):
  return {
    path.name: hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(folder.iterdir())
  }


def images(samples):
  return np.concatenate([part["images"] for part in samples.parts()])


def test_exactly_n_samples_however_many_are_asked_for(tmp_path):
  few = generation.generate(draw, 5, 4, tmp_path / "few")
  many = generation.generate(draw, 11, 4, tmp_path / "many")
  assert len(images(few)) == 5 and len(images(many)) == 11
  np.testing.assert_array_equal(images(few), images(many)[:5])
  labels = np.concatenate([part["labels"] for part in many.parts()])
  np.testing.assert_array_equal(labels, np.arange(11) % 10)
  other = generation.generate(draw, 11, 3, tmp_path / "other")
  np.testing.assert_array_equal(images(other), images(many))


def test_the_sampler_sees_one_aligned_shape(tmp_path):
  seen = []

  def sample(indices):
    seen.append(indices)
    return draw(indices)

  generation.generate(sample, 10, 4, tmp_path)
  np.testing.assert_array_equal(seen, np.arange(12).reshape(3, 4))
  seen.clear()
  generation.generate(sample, 14, 4, tmp_path)
  np.testing.assert_array_equal(seen, [[12, 13, 14, 15]])


def test_an_interrupted_job_resumes_to_the_same_files(tmp_path):
  generation.generate(draw, 20, 4, tmp_path / "whole")
  calls = []

  def failing(indices):
    calls.append(indices)
    if len(calls) % 2 == 0:
      raise KeyboardInterrupt
    return draw(indices)

  for _ in range(10):
    try:
      samples = generation.generate(failing, 20, 4, tmp_path / "broken")
      break
    except KeyboardInterrupt:
      (tmp_path / "broken" / "part-00000016.npz.x.partial").touch()
  assert len(samples) == 20
  assert digests(tmp_path / "broken") == digests(tmp_path / "whole")


def test_progress_counts_samples_and_includes_what_was_there(tmp_path):
  calls = []
  generation.generate(draw, 6, 4, tmp_path, progress=lambda *a: calls.append(a))
  assert calls == [(0, 6), (4, 6), (6, 6)]
  generation.generate(draw, 9, 4, tmp_path, progress=lambda *a: calls.append(a))
  assert calls[3:] == [(8, 9), (9, 9)]


def test_another_jobs_folder_is_refused(tmp_path):
  generation.generate(draw, 4, 4, tmp_path, identity={"a": {"seed": 1}})
  with pytest.raises(generation.SamplesError, match=r"identity\.a\.seed is 1"):
    generation.generate(draw, 4, 4, tmp_path, identity={"a": {"seed": 2}})
  with pytest.raises(generation.SamplesError, match="batch is 4"):
    generation.generate(draw, 4, 2, tmp_path, identity={"a": {"seed": 1}})


HOLD = """
import sys
from training import lock
held = lock.take(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held(folder):
  """Another process draws into a folder."""
  command = [sys.executable, "-c", HOLD, str(folder)]
  pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
  with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as other:
    assert other.stdout.readline() == "held\n"
    yield
    other.stdin.close()


def test_two_jobs_do_not_draw_into_one_folder(tmp_path):
  generation.generate(draw, 4, 4, tmp_path)
  before = digests(tmp_path)
  with (
    held(tmp_path),
    pytest.raises(generation.SamplesError, match="another process"),
  ):
    generation.generate(draw, 9, 4, tmp_path)
  assert digests(tmp_path) == before
  assert len(images(generation.generate(draw, 9, 4, tmp_path))) == 9


def test_samples_of_an_unknown_job_are_refused(tmp_path):
  generation.generate(draw, 4, 4, tmp_path, identity={"seed": 0})
  (tmp_path / "manifest.json").unlink()
  before = digests(tmp_path)
  with pytest.raises(generation.SamplesError, match="of an unknown job"):
    generation.generate(draw, 4, 4, tmp_path, identity={"seed": 1})
  assert digests(tmp_path) == before


def test_samples_are_deleted_before_what_says_whose_they_are(
  tmp_path, monkeypatch
):
  folder = tmp_path / "samples"
  generation.generate(draw, 11, 4, folder)
  before, unlink = digests(folder), Path.unlink

  def killed(self, *arguments, **options):
    if len(list(folder.glob("part-*"))) == 1:
      raise KeyboardInterrupt
    unlink(self, *arguments, **options)

  with monkeypatch.context() as patch:
    patch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
      generation.delete(folder)
  assert len(list(folder.glob("part-*"))) == 1
  assert (folder / "manifest.json").is_file()
  generation.generate(draw, 11, 4, folder)
  assert digests(folder) == before
  generation.delete(folder)
  assert not folder.exists()


def test_samples_that_another_job_draws_are_not_deleted(tmp_path):
  generation.generate(draw, 4, 4, tmp_path)
  before = digests(tmp_path)
  with (
    held(tmp_path),
    pytest.raises(generation.SamplesError, match="another process"),
  ):
    generation.delete(tmp_path)
  assert digests(tmp_path) == before


REFUSED = """
import sys
import numpy as np
from evaluation import generation
from launch import setup
setup.distributed("cpu")
draw = lambda i: {"images": np.zeros((len(i), 4, 4, 3), np.uint8)}
try:
  generation.generate(draw, 4, 4, sys.argv[1], identity={"seed": 1})
except generation.SamplesError as error:
  print(error)
else:
  sys.exit("nothing was refused")
"""


def test_no_process_waits_for_one_that_cannot_begin(tmp_path):
  generation.generate(draw, 4, 4, tmp_path, identity={"seed": 0})
  first, second = processes.pair(REFUSED, [str(tmp_path)])
  assert "holds other samples: identity.seed is 0" in first
  assert "process 0 cannot draw there" in second


def test_samples_are_read_from_anywhere(tmp_path):
  samples = generation.generate(draw, 11, 4, tmp_path)
  whole = images(samples)
  for start, stop in ((0, 11), (0, 1), (3, 5), (4, 8), (2, 10), (10, 11)):
    found = samples.rows(start, stop)
    np.testing.assert_array_equal(found["images"], whole[start:stop])
    np.testing.assert_array_equal(found["labels"], np.arange(start, stop) % 10)
  assert set(samples.rows(3, 5, ["labels", "absent"])) == {"labels"}


def test_damage_and_absence_are_named(tmp_path):
  samples = generation.generate(draw, 8, 4, tmp_path)
  part = tmp_path / "part-00000004.npz"
  data = bytearray(part.read_bytes())
  data[len(data) // 3] ^= 1
  part.write_bytes(data)
  with pytest.raises(generation.SamplesError, match="part-00000004"):
    images(samples)
  part.write_bytes(data[:100])
  with pytest.raises(generation.SamplesError, match="1 parts are missing"):
    generation.open_samples(tmp_path)
  generation.generate(draw, 8, 4, tmp_path)
  assert len(images(generation.open_samples(tmp_path))) == 8
  with pytest.raises(generation.SamplesError, match="no folder of samples"):
    generation.open_samples(tmp_path / "absent")


def test_wrong_shapes_are_refused(tmp_path):
  with pytest.raises(ValueError, match="first axis must be the batch, 4"):
    generation.generate(lambda i: {"x": np.zeros(3)}, 4, 4, tmp_path)
  with pytest.raises(ValueError, match="at least 1"):
    generation.generate(draw, 0, 4, tmp_path)


JOB = """
import sys, time
import numpy as np
from evaluation import generation
def sample(indices):
  time.sleep(0.01)
  images = np.stack([np.random.RandomState(i).randint(0, 256, (64, 64, 3))
                     for i in indices])
  return {"images": images.astype(np.uint8)}
def progress(done, total):
  print(done, flush=True)
generation.generate(sample, 120, 4, sys.argv[1], progress=progress)
"""


def test_a_killed_job_resumes_to_the_same_files(tmp_path):
  def start(folder):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
      [sys.executable, "-c", JOB, str(folder)],
      cwd=ROOT,
      stdout=subprocess.PIPE,
      text=True,
      env=environment,
    )

  def sample(indices):
    draws = [np.random.RandomState(i) for i in indices]
    pixels = np.stack([d.randint(0, 256, (64, 64, 3)) for d in draws])
    return {"images": pixels.astype(np.uint8)}

  generation.generate(sample, 120, 4, tmp_path / "whole")
  chance = random.Random(0)
  for _ in range(2):
    job = start(tmp_path / "killed")
    first = int(job.stdout.readline())
    while int(job.stdout.readline()) < first + 8:
      pass
    time.sleep(chance.uniform(0, 0.05))
    job.send_signal(signal.SIGKILL)
    job.wait(60)
  assert start(tmp_path / "killed").wait(60) == 0
  assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
  manifest = json.loads((tmp_path / "killed" / "manifest.json").read_text())
  assert manifest["num"] == 120
