#!/bin/bash
# Shared by the batch scripts here: run `suite …`, and requeue the job where a time limit or a
# preemption stopped it.
cd "$SLURM_SUBMIT_DIR" || exit
# srun passes SLURM's signals on to the worker. From 22.05 on it does not inherit the CPUs.
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" ${SUITE:-.venv/bin/suite} "$@"
. suite/sweeps/requeue.sh $?
