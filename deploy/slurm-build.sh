#!/bin/bash
# One task of a Slurm array that builds an index: sbatch --array=0-63 deploy/slurm-build.sh INDEX CORPUS
#SBATCH --cpus-per-task=16 --mem=64G --time=12:00:00 --requeue
set -euo pipefail
exec srun priorart build --index "$1" --tokenizer gpt2 --memory "${MEMORY:-60GB}" \
  --task "$SLURM_ARRAY_TASK_ID" --tasks "$SLURM_ARRAY_TASK_COUNT" "$2"
