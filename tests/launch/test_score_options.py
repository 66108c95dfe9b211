"""Options of launch.evaluate that would change nothing are refused."""

import pytest

from launch import evaluate
from tests.launch import scored_run


@pytest.mark.parametrize(
  ("given", "refused", "owner"),
  [
    (["--samples=x"], ["--seed=1"], "--workdir=RUN"),
    (["--samples=x"], ["--sample_batch=4"], "--workdir=RUN"),
    (["--samples=x"], ["--no_average"], "--workdir=RUN"),
    (["--samples=x"], ["--step=0"], "--workdir=RUN"),
    (["--samples=x"], ["--watch"], "--workdir=RUN"),
    (["--samples=x"], ["--poll=1"], "--workdir=RUN"),
    (["--samples=x"], ["--split=train"], "--workdir=RUN"),
    (["--samples=x"], ["--num_images=9"], "--workdir=RUN"),
    (["--workdir=x", "--metrics=fid"], ["--split=y"], "=reconstruction"),
    (["--workdir=x", "--metrics=fid"], ["--num_images=9"], "=reconstruction"),
    (["--workdir=x", "--metrics=fid"], ["--out=y"], "--samples=X"),
    (["--workdir=x", "--metrics=fid"], ["--transform=grey"], "--samples=X"),
    (["--workdir=x", "--metrics=fid"], ["--poll=1"], "--watch"),
    *(
      (["--workdir=x", "--metrics=reconstruction"], [option], "samples")
      for option in (
        *("--num_samples=9", "--reference=y.npz"),
        *("--seed=1", "--sample_batch=4", "--discard_samples"),
      )
    ),
  ],
)
def test_options_of_something_else_are_refused(capsys, given, refused, owner):
  assert evaluate.main([*given, *refused]) == 2
  error = capsys.readouterr().err
  name = refused[0].partition("=")[0]
  assert f"{name} belongs to" in error and owner in error
  assert len(error.splitlines()) == 1


def test_a_run_whose_data_moved_is_scored(tmp_path, monkeypatch, capsys):
  workdir = scored_run.make(tmp_path, monkeypatch)
  moved = (tmp_path / "data.npz").rename(tmp_path / "moved.npz")
  command = [f"--workdir={workdir}", "--metrics=fid", "--num_samples=20"]
  command += ["--inception=random:3"]
  assert evaluate.main(command) == 1
  assert "data.npz" in capsys.readouterr().err
  assert evaluate.main([*command, f"--data_dir={moved}"]) == 0
