#!/bin/bash
# Label videos as an array of independent nodes, all into one output:
#
#     sbatch --array=0-15 cluster/slurm.sh s3://bucket/videos/ --out s3://bucket/labels --cpus-per-actor 7
#
# Every task takes its own videos (a stable hash of their ids) and uses all GPUs of its node; no Ray cluster spans nodes,
# so one lost node stops no other. The task that finds nothing missing writes _SUCCESS. Submit the same line to resume.
#SBATCH --job-name=gsvnet
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=gsvnet-%A_%a.log
set -euo pipefail

MAX_RESTARTS=20

gsvnet label "$@" --array-index "${SLURM_ARRAY_TASK_ID:?submit with --array}" --array-count "$SLURM_ARRAY_TASK_COUNT" \
    --drain-seconds 120 &
labeling=$!

# The time limit is near or the node is wanted: running shards finish, the rest is for the next start.
stopped=no
trap 'stopped=yes; kill -TERM "$labeling" 2>/dev/null || true' TERM

code=0
wait "$labeling" || code=$?
while kill -0 "$labeling" 2>/dev/null; do # a signal ends `wait` before the process ends
    code=0
    wait "$labeling" || code=$?
done

if [[ $stopped == yes && $code -ne 0 && ${SLURM_RESTART_COUNT:-0} -lt $MAX_RESTARTS ]]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
