#!/bin/bash
# What the batch scripts here share: run `suite …`, and go back into the queue where it was stopped
# by a time limit or a preemption.
cd "$SLURM_SUBMIT_DIR" || exit
# A worker hears SLURM's signals as a step of srun; from 22.05 on that does not inherit the CPUs.
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" ${SUITE:-.venv/bin/suite} "$@"
. suite/sweeps/requeue.sh $?
