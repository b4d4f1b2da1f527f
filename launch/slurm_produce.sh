#!/usr/bin/env bash
#SBATCH --job-name=distsae-produce
#SBATCH --array=0-15              # as many as there are GPUs to spare: they share the store's units among themselves
#SBATCH --ntasks=1
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=04:00:00
#SBATCH --requeue                 # a task that is killed or preempted loses the unit it was at and nothing else
#SBATCH --output=logs/%x-%A_%a.out
#
# Text to activations, as a job array:
#
#   mkdir -p logs && sbatch launch/slurm_produce.sh --config produce.yaml
#   sbatch launch/slurm_produce.sh --model gpt2 --corpus /data/texts --hooks '[blocks.6.resid_post]' \
#       --out /scratch/stores/gpt2 --max_rows 100000000
#
# Every task runs the same command. They meet in the store alone, which must be on a file system that all of them
# see: each takes units that nobody has committed, and whoever commits the last one seals the store. More tasks may
# join at any time, on other machines too; the result is the same for any number of them. Afterwards:
#
#   distsae store verify /scratch/stores/gpt2
#   distsae store collect /scratch/stores/gpt2     (removes what killed tasks left behind)
#
# An example: partitions, accounts and modules are your site's.
set -euo pipefail

: "${DISTSAE_PYTHON:=$SLURM_SUBMIT_DIR/.venv/bin/python}"   # where distsae is installed
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"

exec srun "$DISTSAE_PYTHON" -m distsae produce "$@"
