#!/usr/bin/env bash
# Scores the checkpoints of a run as they appear, on the GPUs of SLURM nodes:
#
#   sbatch --nodes=1 launch/slurm_evaluate.sh --workdir=/shared/runs/dct \
#     --metrics=fid,sfid,precision_recall --num_samples=10000
#
# Ends when the training has. Sampling goes on where it was stopped, so a job
# that reaches its time limit or is preempted queues itself again, at most
# MAX_RESTARTS times (100; sbatch --export=ALL,MAX_RESTARTS=N). Run it from
# the checkout, installed with `make install EXTRA=cuda`. On a TPU pod the same
# is `launch/tpu_pod.sh ... -- python -m launch.evaluate --watch ...`.
#SBATCH --job-name=tessera-evaluate
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@60
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.txt
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:-.}"
terminated=
trap 'terminated=1' TERM

code=0
srun --kill-on-bad-exit=1 .venv/bin/python -m launch.evaluate \
  --watch --platform=gpu "$@" || code=$?

# 143: SLURM ended the steps.
if [[ -n $terminated ]] || ((code == 143)); then
  if ((${SLURM_RESTART_COUNT:-0} >= ${MAX_RESTARTS:-100})); then
    echo "stopped after $SLURM_RESTART_COUNT restarts, and not queued again"
    exit "$code"
  fi
  echo "stopped; queueing job $SLURM_JOB_ID again"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
