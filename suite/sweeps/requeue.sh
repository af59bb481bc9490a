# Requeue a job whose work was stopped. A batch script reads this file after srun, and gives srun's
# exit code as the first argument, which is also the exit code of the script.
#   130        the work stopped with a checkpoint. Where only one of several processes did, a file
#              in the folder that is the second argument says so
#   140, 143   SIGUSR2 or SIGTERM came before the work began. The number of these requeues is
#              limited, since a job may be too short to begin
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}
mark=${2-}/$job.${SLURM_RESTART_COUNT:-0}.stopped
[ ! -e "$mark" ] || { rm -f "$mark"; set -- 130; }
early=no
{ [ "$1" = 140 ] || [ "$1" = 143 ]; } && [ "${SLURM_RESTART_COUNT:-0}" -lt 50 ] && early=yes
if [ "$1" = 130 ] || [ $early = yes ]; then
	trap '' TERM # requeueing sends it to this script and its children
	for _ in 1 2 3 4 5; do # the controller may be busy, or restarting
		if state=$(squeue --noheader --jobs="$job" --format=%T); then
			[ "$state" = RUNNING ] || break # requeueing would restart a cancelled job
			scontrol requeue "$job" && break
		fi
		sleep 5
	done
fi
exit "$1"
