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
  for name, body in {
    "srun": f'echo "srun $*" >> {tmp_path}/calls; exit {code}',
    "scontrol": f'echo "scontrol $*" >> {tmp_path}/calls',
  }.items():
    (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
    (tmp_path / name).chmod(0o755)
  done = subprocess.run(
    [shared.ROOT / "launch" / script, given, "--workdir=/shared/a b"],
    env={
      **os.environ,
      "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
      "SLURM_JOB_ID": "17",
    },
    capture_output=True,
  )
  assert done.returncode == code
  calls = (tmp_path / "calls").read_text().splitlines()
  assert f"{called} --workdir=/shared/a b" in calls[0]
  assert ("scontrol requeue 17" in calls) == requeued
