import os
import subprocess

import pytest

from tests import shared

SCRIPT = shared.ROOT / "launch" / "slurm_evaluate.sh"


@pytest.mark.parametrize(
  "code, requeued", [(0, False), (143, True), (1, False)]
)
def test_only_a_stopped_job_is_queued_again(tmp_path, code, requeued):
  for name, body in {
    "srun": f'echo "srun $*" >> {tmp_path}/calls; exit {code}',
    "scontrol": f'echo "scontrol $*" >> {tmp_path}/calls',
  }.items():
    (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
    (tmp_path / name).chmod(0o755)
  done = subprocess.run(
    [SCRIPT, "--metrics=fid", "--workdir=/shared/a b"],
    env={
      **os.environ,
      "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
      "SLURM_JOB_ID": "17",
    },
    capture_output=True,
  )
  assert done.returncode == code
  calls = (tmp_path / "calls").read_text().splitlines()
  assert "--watch --platform=gpu --metrics=fid" in calls[0]
  assert ("scontrol requeue 17" in calls) == requeued
