#!/usr/bin/env bash
# Trains on the GPUs of several nodes, one process a GPU, with SLURM:
#
#   sbatch --nodes=4 launch/slurm.sh --config=configs/dct_imagenet.py \
#     --workdir=/shared/runs/dct --config.mesh.data=-1 --config.mesh.fsdp=8
#
# Two minutes before the time limit, and when it is preempted, the job saves a
# checkpoint and queues itself again, at most MAX_RESTARTS times (100): the same
# command resumes. A command that fails ends the job. Run it from the checkout, installed with
# `make install EXTRA=cuda`; the work directory has to be on a shared disk.
#SBATCH --job-name=tessera
#SBATCH --nodes=2
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.txt
set -euo pipefail

# launch.train exits with 75 after a signal, with a checkpoint on the disk; 143
# is a signal before the first step.
resumable='75|143'

cd "${SLURM_SUBMIT_DIR:-.}"
# SLURM may tell this script of the end too: the steps save, it waits for them.
trap : TERM

code=0
srun --kill-on-bad-exit=1 .venv/bin/python -m launch.train \
  --config.platform=gpu "$@" || code=$?

if [[ $code =~ ^($resumable)$ ]]; then
  if ((${SLURM_RESTART_COUNT:-0} >= ${MAX_RESTARTS:-100})); then
    echo "stopped after $SLURM_RESTART_COUNT restarts, and not queued again"
    exit "$code"
  fi
  echo "stopped; queueing job $SLURM_JOB_ID again"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
