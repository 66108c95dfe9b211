import os
import subprocess

import pytest

from tests import shared


@pytest.mark.parametrize(
  ("script", "given", "called", "code", "requeued"),
  [
    ("slurm.sh", "--config=x.py", "--config.platform=gpu --config=x.py", *end)
    for end in [(0, False), (75, True), (143, True), (1, False)]
  ]
  + [
    (
      "slurm_evaluate.sh",
      "--metrics=fid",
      "--watch --platform=gpu --metrics=fid",
      *end,
    )
    for end in [(0, False), (143, True), (1, False)]
  ],
)
def test_only_a_job_that_can_go_on_is_queued_again(
  tmp_path, script, given, called, code, requeued
):
  done, calls = run(tmp_path, script, code, given, "--workdir=/shared/a b")
  assert done.returncode == code
  assert f"{called} --workdir=/shared/a b" in calls[0]
  assert ("scontrol requeue 17" in calls) == requeued


@pytest.mark.parametrize("script", ["slurm.sh", "slurm_evaluate.sh"])
@pytest.mark.parametrize(
  ("restarts", "requeued"), [("99", True), ("100", False)]
)
def test_a_job_is_not_queued_without_end(tmp_path, script, restarts, requeued):
  done, calls = run(tmp_path, script, 143, SLURM_RESTART_COUNT=restarts)
  assert done.returncode == 143
  assert ("scontrol requeue 17" in calls) == requeued
  assert (b"after 100 restarts" in done.stdout) != requeued


def run(tmp_path, script, code, *arguments, **environment):
  """Runs a script whose srun ends so; returns it and the calls it made."""
  for name, body in {
    "srun": f'echo "srun $*" >> {tmp_path}/calls; exit {code}',
    "scontrol": f'echo "scontrol $*" >> {tmp_path}/calls',
  }.items():
    (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
    (tmp_path / name).chmod(0o755)
  done = subprocess.run(
    [shared.ROOT / "launch" / script, *arguments],
    env={
      **os.environ,
      "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
      "SLURM_JOB_ID": "17",
      **environment,
    },
    capture_output=True,
  )
  return done, (tmp_path / "calls").read_text().splitlines()
