# What a batch script does after srun, whose exit code is the first argument: go back into the queue
# where the work was told to stop, and pass the exit code on.
#   130        it stopped with a checkpoint; or one of several processes did, which a file says in
#              the folder that is the second argument
#   140, 143   SIGUSR2 or SIGTERM came before it began; not for ever, where a job is shorter than
#              that takes
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}
mark=${2-}/$job.${SLURM_RESTART_COUNT:-0}.stopped
[ ! -e "$mark" ] || { rm -f "$mark"; set -- 130; }
early=no
{ [ "$1" = 140 ] || [ "$1" = 143 ]; } && [ "${SLURM_RESTART_COUNT:-0}" -lt 50 ] && early=yes
if [ "$1" = 130 ] || [ $early = yes ]; then
	trap '' TERM # which requeueing sends to this very script and what it started
	for _ in 1 2 3 4 5; do # the controller may be busy, or restarting
		if state=$(squeue --noheader --jobs="$job" --format=%T); then
			[ "$state" = RUNNING ] || break # a cancelled job would come back from the dead
			scontrol requeue "$job" && break
		fi
		sleep 5
	done
fi
exit "$1"
