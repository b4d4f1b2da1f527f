#!/usr/bin/env bash
#SBATCH --job-name=distsae-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1       # one launcher on each node; it starts one process a GPU
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300       # five minutes before the end: stop behind a checkpoint and requeue; see below
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
# What happens when (docs/clusters.md, "Preemption"):
#   - the time is nearly up, or the job is preempted: all processes stop behind a checkpoint, the job is requeued;
#   - scancel: they stop behind a checkpoint if KillWait gives them the time; the job is not requeued;
#   - a process crashes, a node hangs: the whole step is started again, at most RESTARTS (3) times for each time the
#     job starts, after PAUSE (10) seconds;
#   - wrong input (2), a diverged training (3): the job ends with that code.
#
# An example: partitions, accounts, modules and the network interface (NCCL_SOCKET_IFNAME) are your site's.
set -euo pipefail

: "${DISTSAE_PYTHON:=$SLURM_SUBMIT_DIR/.venv/bin/python}"   # where distsae is installed
: "${DISTSAE_REPOSITORY:=$SLURM_SUBMIT_DIR}"
: "${CLUSTER_CONFIG:=$DISTSAE_REPOSITORY/cluster_configs/multinode.yaml}"
: "${RESTARTS:=3}"
: "${PAUSE:=10}"
GPUS_PER_NODE="${SLURM_GPUS_ON_NODE:-8}"
read -r MAIN_ADDRESS < <(scontrol show hostnames "$SLURM_JOB_NODELIST") # the first one
export DISTSAE_PYTHON CLUSTER_CONFIG GPUS_PER_NODE MAIN_ADDRESS
export OMP_NUM_THREADS=$((${SLURM_CPUS_PER_TASK:-$GPUS_PER_NODE} / GPUS_PER_NODE))

asked="" step="" interrupted=""
stop() {
    asked="$1" interrupted=yes
    # srun passes USR1 on to every process of the step; a TERM it might take for an order to kill.
    if [ -n "$step" ]; then kill -USR1 "$step" 2>/dev/null || true; fi
}
trap 'stop USR1' USR1
trap 'stop TERM' TERM

# Waits for a process to its end: a trapped signal makes `wait` return early, and the code is then that of the signal.
wait_for() {
    while :; do
        interrupted=""
        code=0
        wait "$1" || code=$?
        if [ -z "$interrupted" ]; then return 0; fi
    done
}

run_step() {
    # Another port each time: nobody may meet the sockets of the step before.
    export MAIN_PORT=$((20000 + (SLURM_JOB_ID + 997 * ${SLURM_RESTART_COUNT:-0} + 31 * $1) % 20000))
    shift
    # The step's code is the highest of its tasks': 75 if any node stopped as asked and none was killed. --kill-on-bad-exit would end the others, and soon kill them, when
    # one node has ended with 75; --wait gives them two minutes to find out for themselves, and then ends what hangs.
    # $SLURM_NODEID is this node's number, so it must be read on the node: hence the inner shell.
    srun --kill-on-bad-exit=0 --wait=120 bash -c '
        exec "$DISTSAE_PYTHON" -m distsae supervise --restarts 0 -- \
            --config_file "$CLUSTER_CONFIG" \
            --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES * GPUS_PER_NODE))" \
            --machine_rank "$SLURM_NODEID" --main_process_ip "$MAIN_ADDRESS" --main_process_port "$MAIN_PORT" \
            -m distsae train "$@"
    ' bash "$@" &
    step=$!
    if [ -n "$asked" ]; then kill -USR1 "$step" 2>/dev/null || true; fi # meanwhile
    wait_for "$step"
    step=""
}

# Whoever cancels a job wants it gone; a job that is preempted may be in the queue already.
requeue() {
    case "$(scontrol show job "$SLURM_JOB_ID" 2>/dev/null)" in
    *JobState=CANCELLED*)
        echo "job $SLURM_JOB_ID was cancelled: not requeued; the same command goes on from its newest checkpoint"
        exit 75
        ;;
    esac
    echo "requeueing job $SLURM_JOB_ID"
    scontrol requeue "$SLURM_JOB_ID" || {
        echo "job $SLURM_JOB_ID could not be requeued; the same command goes on from its newest checkpoint"
        exit 75
    }
    exit 0
}

try=0
while :; do
    run_step "$try" "$@"
    case "$code" in
    0 | 2 | 3) exit "$code" ;;  # done; wrong input; diverged: once more would end the same
    75) requeue ;;
    130) exit 130 ;;            # by hand
    esac
    # Asked to stop, and crashed on the way: what the newest checkpoint does not hold is computed again.
    if [ -n "$asked" ]; then requeue; fi
    if [ "$try" -ge "$RESTARTS" ]; then
        echo "try $((try + 1)) of $((RESTARTS + 1)) ended with $code: given up"
        exit "$code"
    fi
    echo "try $((try + 1)) of $((RESTARTS + 1)) ended with $code: starting again in $PAUSE s"
    try=$((try + 1))
    sleep "$PAUSE" &
    wait $! || true # a signal ends it early
    if [ -n "$asked" ]; then requeue; fi
done
