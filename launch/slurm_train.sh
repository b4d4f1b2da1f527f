#!/usr/bin/env bash
#SBATCH --job-name=distsae-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1       # one launcher on each node; it starts one process for each GPU
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300       # five minutes before the end: stop after a checkpoint and requeue; see below
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=logs/%x-%j.out
#
# Runs one training on all GPUs of the job:
#
#   mkdir -p logs && sbatch launch/slurm_train.sh --config train.yaml --mesh.data 2 --mesh.feature 8
#   sbatch --nodes=1 launch/slurm_train.sh --store /scratch/stores/gpt2 --out /scratch/runs/mc --sae.d_sae 1048576 \
#       --mesh.feature 8
#
# mesh.data * mesh.feature must equal nodes * GPUs per node. The run folder and the store must be on a file system that
# all nodes can access. `--resume auto` is the default, so a requeued job resumes from the newest valid checkpoint, also
# with another number of nodes if --mesh.data and --mesh.feature are changed to match.
#
# Events (docs/clusters.md, "Preemption"):
#   - the time is nearly up, or the job is preempted: all processes stop after a checkpoint, and the job is requeued;
#   - processes do not stop within GRACE (240) seconds, because a rank is lost: they are killed, and the job is requeued;
#   - scancel: all processes stop after a checkpoint if KillWait gives them the time; the job is not requeued;
#   - a process crashes or a node hangs: the whole job step is restarted after PAUSE (10) seconds, at most RESTARTS (3)
#     times for each time that the job starts;
#   - wrong input (2) or a diverged training (3): the job ends with that code.
#
# This is an example: add the partition, account and modules of your site. On each node gloo uses the network interface
# that leads to the first node. Where that is the wrong one, export GLOO_SOCKET_IFNAME=ib0 before sbatch (one name;
# NCCL_SOCKET_IFNAME, NCCL's own choice, may also be written ^lo,docker0).
set -euo pipefail

: "${DISTSAE_PYTHON:=$SLURM_SUBMIT_DIR/.venv/bin/python}"   # where distsae is installed
: "${DISTSAE_REPOSITORY:=$SLURM_SUBMIT_DIR}"
: "${CLUSTER_CONFIG:=$DISTSAE_REPOSITORY/cluster_configs/multinode.yaml}"
: "${RESTARTS:=3}"
: "${PAUSE:=10}"
: "${GRACE:=240}"                                           # seconds to stop after a signal; less than --signal gives
GPUS_PER_NODE="${SLURM_GPUS_ON_NODE:-8}"
read -r MAIN_ADDRESS < <(scontrol show hostnames "$SLURM_JOB_NODELIST") # the first one
export DISTSAE_PYTHON CLUSTER_CONFIG GPUS_PER_NODE MAIN_ADDRESS GRACE
export OMP_NUM_THREADS=$((${SLURM_CPUS_PER_TASK:-$GPUS_PER_NODE} / GPUS_PER_NODE))

asked="" step="" interrupted=""
stop() {
    asked="$1" interrupted=yes
    # srun passes USR1 on to every process of the job step; it might take TERM as a request to kill them.
    if [ -n "$step" ]; then kill -USR1 "$step" 2>/dev/null || true; fi
}
trap 'stop USR1' USR1
trap 'stop TERM' TERM

# Waits until a process has ended. A trapped signal makes `wait` return early, with the code of the signal.
wait_for() {
    while :; do
        interrupted=""
        code=0
        wait "$1" || code=$?
        if [ -z "$interrupted" ]; then return 0; fi
    done
}

run_step() {
    # Another port each time, so that no process connects to sockets of the previous job step.
    export MAIN_PORT=$((20000 + (SLURM_JOB_ID + 997 * ${SLURM_RESTART_COUNT:-0} + 31 * $1) % 20000))
    shift
    # The code of the job step is the highest code of its tasks: 75 if a node stopped as asked and none was killed. With
    # --kill-on-bad-exit=1 the first node that ends with 75 would make srun end, and soon kill, the others. --wait gives
    # them two minutes to stop by themselves, and then kills what hangs.
    # The inner shell is there because $SLURM_NODEID, the number of the node, must be read on the node.
    srun --kill-on-bad-exit=0 --wait=120 bash -c '
        exec "$DISTSAE_PYTHON" -m distsae supervise --restarts 0 --grace "$GRACE" -- \
            --config_file "$CLUSTER_CONFIG" \
            --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES * GPUS_PER_NODE))" \
            --machine_rank "$SLURM_NODEID" --main_process_ip "$MAIN_ADDRESS" --main_process_port "$MAIN_PORT" \
            -m distsae train "$@"
    ' bash "$@" &
    step=$!
    if [ -n "$asked" ]; then kill -USR1 "$step" 2>/dev/null || true; fi # the signal came before $step was set
    wait_for "$step"
    step=""
}

# Requeues the job, unless SLURM is ending it for a reason of its own. A job that is cancelled, or that SLURM requeues by
# itself, is COMPLETING by now, not CANCELLED; one whose time is up is too, but gives that as the reason.
requeue() {
    case "$(scontrol show job "$SLURM_JOB_ID" 2>/dev/null)" in
    "" | *JobState=RUNNING* | *Reason=TimeLimit*) ;;
    *)
        echo "SLURM is cancelling or requeueing job $SLURM_JOB_ID: not requeued from here; the same command goes on from" \
            "its newest checkpoint"
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
    0 | 2 | 3) exit "$code" ;;  # done; wrong input or diverged, which another try would not change
    75) requeue ;;
    130) exit 130 ;;            # interrupted by Ctrl-C
    esac
    # It crashed after it was asked to stop: the requeued job computes again what the newest checkpoint lacks.
    if [ -n "$asked" ]; then requeue; fi
    if [ "$try" -ge "$RESTARTS" ]; then
        echo "try $((try + 1)) of $((RESTARTS + 1)) ended with $code: given up"
        exit "$code"
    fi
    echo "try $((try + 1)) of $((RESTARTS + 1)) ended with $code: starting again in $PAUSE s"
    try=$((try + 1))
    sleep "$PAUSE" &
    wait $! || true # a signal ends the pause early
    if [ -n "$asked" ]; then requeue; fi
done
