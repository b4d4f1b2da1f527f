#!/usr/bin/env bash
#SBATCH --job-name=distsae-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1       # one launcher on each node; it starts one process a GPU
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300       # five minutes before the end: stop and requeue; see below
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=logs/%x-%j.out
#
# One training over all GPUs of the job:
#
#   mkdir -p logs && sbatch launch/slurm_train.sh --config train.yaml --mesh.data 2 --mesh.feature 8
#   sbatch --nodes=1 launch/slurm_train.sh --store /scratch/stores/gpt2 --out /scratch/runs/mc --sae.d_sae 1048576 \
#       --mesh.feature 8
#
# mesh.data * mesh.feature must be nodes * GPUs per node. The run folder and the store must be on a file system that
# all nodes see. `--resume auto` is the default, so a requeued job goes on from the newest valid checkpoint, also with
# another number of nodes if --mesh.data and --mesh.feature say so.
#
# An example: partitions, accounts, modules and the network interface (NCCL_SOCKET_IFNAME) are your site's.
set -euo pipefail

: "${DISTSAE_PYTHON:=$SLURM_SUBMIT_DIR/.venv/bin/python}"   # where distsae is installed
REPOSITORY="${DISTSAE_REPOSITORY:-$SLURM_SUBMIT_DIR}"
GPUS_PER_NODE="${SLURM_GPUS_ON_NODE:-8}"

MAIN_ADDRESS="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
# Another port each time the job starts: a requeued one must not meet the sockets of the one before.
MAIN_PORT=$((20000 + (SLURM_JOB_ID + 7 * ${SLURM_RESTART_COUNT:-0}) % 20000))
export MAIN_ADDRESS MAIN_PORT GPUS_PER_NODE REPOSITORY DISTSAE_PYTHON
export OMP_NUM_THREADS=$((${SLURM_CPUS_PER_TASK:-$GPUS_PER_NODE} / GPUS_PER_NODE))

# $SLURM_NODEID is this node's number, so it must be read on the node: hence the inner shell.
srun --kill-on-bad-exit=1 bash -c '
    exec "$DISTSAE_PYTHON" -m accelerate.commands.launch \
        --config_file "$REPOSITORY/cluster_configs/multinode.yaml" \
        --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES * GPUS_PER_NODE))" \
        --machine_rank "$SLURM_NODEID" --main_process_ip "$MAIN_ADDRESS" --main_process_port "$MAIN_PORT" \
        -m distsae train "$@"
' bash "$@" &
step=$!

# Before the time is up the processes are told to end, and the job goes back into the queue. Whatever the last
# checkpoint does not hold is computed again, so checkpoint.every should be worth less than a lost half hour.
requeue() {
    trap - USR1
    echo "time is nearly up: stopping and requeueing job $SLURM_JOB_ID"
    kill -TERM "$step" || true
    wait "$step" || true
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
}
trap requeue USR1

wait "$step"
