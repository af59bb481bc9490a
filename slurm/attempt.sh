#!/bin/bash
# What the batch scripts here share: run `suite …`, and go back into the queue where it was stopped
# by a time limit or a preemption. It exits with 130 then, its checkpoint written.
cd "$SLURM_SUBMIT_DIR" || exit
# A worker hears SLURM's signals as a step of srun; from 22.05 on that does not inherit the CPUs.
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" ${SUITE:-.venv/bin/suite} "$@"
code=$?
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}
# A cancelled job runs no longer, and would come back from the dead.
if [ $code = 130 ] && [ "$(squeue -h -j "$job" -o %T)" = RUNNING ]; then
	trap '' TERM # what requeueing does to this very script
	scontrol requeue "$job"
fi
exit $code
