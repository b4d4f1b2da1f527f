#!/usr/bin/env bash
#SBATCH --job-name=distsae-produce
#SBATCH --array=0-15              # as many tasks as there are free GPUs; they share the units of the store
#SBATCH --ntasks=1
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=04:00:00
#SBATCH --requeue                 # a task that is killed or preempted loses only the units that it was working on
#SBATCH --output=logs/%x-%A_%a.out
#
# Turns text into activations, as a job array:
#
#   mkdir -p logs && sbatch launch/slurm_produce.sh --config produce.yaml
#   sbatch launch/slurm_produce.sh --model gpt2 --corpus /data/texts --hooks '[blocks.6.resid_post]' \
#       --out /scratch/stores/gpt2 --max_rows 100000000
#
# Every task runs the same command. The tasks share only the store, which must be on a file system that all of them can
# access. Each task takes units that are not committed yet, and the task that commits the last unit seals the store.
# More tasks may join at any time, on other machines too. The result is the same for any number of tasks. Afterwards:
#
#   distsae store verify /scratch/stores/gpt2
#   distsae store collect /scratch/stores/gpt2     (removes what killed tasks left behind)
#
# This is an example: add the partition, account and modules of your site.
set -euo pipefail

: "${DISTSAE_PYTHON:=$SLURM_SUBMIT_DIR/.venv/bin/python}"   # where distsae is installed
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"

exec srun "$DISTSAE_PYTHON" -m distsae produce "$@"
