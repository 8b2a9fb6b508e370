#!/bin/bash
# Label videos on several nodes that form one Ray cluster, for few very long videos (else take slurm.sh):
#
#     sbatch --nodes=4 cluster/slurm-ray.sh s3://bucket/videos/ --out s3://bucket/labels --cpus-per-actor 7
#SBATCH --job-name=gsvnet-ray
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@180
#SBATCH --output=gsvnet-%j.log
set -euo pipefail

# The cluster's port is open to its network: a token, seen by this job alone, keeps others out.
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 RAY_JOB_STOP_WAIT_TIME_S=180
RAY_AUTH_TOKEN=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
export RAY_AUTH_TOKEN

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 10000))
export RAY_ADDRESS="${nodes[0]}:$port"

on_node() { # NODE ray-start-options...
    srun --nodes=1 --ntasks=1 --overlap --nodelist="$1" \
        ray start --block --num-cpus="$SLURM_CPUS_PER_TASK" "${@:2}" &
    steps+=("$!")
}

steps=()
trap 'kill -TERM "${steps[@]}" 2>/dev/null || true' EXIT
on_node "${nodes[0]}" --head --node-ip-address="${nodes[0]}" --port="$port" --include-dashboard=false
until ray status >/dev/null 2>&1; do
    kill -0 "${steps[0]}" # the head ended: no cluster
    sleep 2
done
for node in "${nodes[@]:1}"; do
    on_node "$node" --address="$RAY_ADDRESS" --node-ip-address="$node"
done

# Actors follow the nodes as they join.
gsvnet label "$@" --device cuda --gpus-per-actor 1 --drain-seconds 120 &
labeling=$!
trap 'kill -TERM "$labeling" 2>/dev/null || true' TERM
code=0
wait "$labeling" || code=$?
while kill -0 "$labeling" 2>/dev/null; do
    code=0
    wait "$labeling" || code=$?
done
exit "$code"
