"""A sweep's worker process: it leases runs one after another, and trains them."""

import logging
import os
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from suite.config.fields import ConfigError
from suite.runs.environment import git_commit
from suite.runs.folder import RunFolder, check_writable
from suite.runs.lease import EXPIRY_SECONDS, RENEWAL_SECONDS, LeaseHeld, LeaseLost
from suite.sweeps.launcher_lock import Launcher, worker_of
from suite.sweeps.slurm_jobs import Jobs
from suite.system.exits import exits_are_errors
from suite.system.faults import disk_fault
from suite.system.job import choose_gpu, current_job
from suite.system.logs import set_up_logging, silence_libraries
from suite.system.signals import (
    EXIT_STOPPED,
    EXIT_STOPPED_EARLY,
    Interrupted,
    Stopped,
    interruptible,
)

logger = logging.getLogger(__name__)
MAX_FAILED_STARTS = 5  # attempts in a row that are stopped at the same step


def run_worker(
    runs: Sequence[Path], launcher: Launcher | None = None, gpu: str | None = None
) -> None:
    """Train the runs that no other process holds.

    `launcher` is the process on this machine without which the worker ends, and `gpu` the GPU that
    it chose, as CUDA names it; a job of SLURM has neither.
    A run that fails is recorded, and the next one follows. After a stop signal the current run
    saves a checkpoint and the worker ends; the exit code of a SLURM job's worker then makes the
    batch script requeue the job (requeue.sh).
    """
    try:
        if gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before torch looks for GPUs
        elif len(runs) > 1:
            choose_gpu()
        # Until here submitit's own handlers are in place.
        with interruptible(), worker_of(launcher, runs[0].parents[1]):
            set_up_logging()
            silence_libraries()
            check_folder(runs)
            warn_of_other_code(runs)
            for path in runs:
                run_one(RunFolder(path))
            if current_job() is not None:
                for path in runs:
                    wait_and_run(RunFolder(path))
    except Interrupted as interruption:
        job = current_job()
        if job is None:
            return
        if not isinstance(interruption, Stopped):
            sys.exit(EXIT_STOPPED_EARLY)
        with suppress(OSError):  # the exit code says the same, unless another worker's replaces it
            Jobs(runs[0].parents[1]).mark_stopped(job)
        sys.exit(EXIT_STOPPED)


def run_one(run: RunFolder) -> str:
    """Train a run unless it is finished, failed or held by another process; return its state.

    Raises Stopped after a stop signal. Where a run has several ranks, a rank that fails ends its
    process: srun then ends the others, which may wait for it.
    """
    from suite.train import train

    state, multi_rank = run.state(), False
    if state in ("finished", "failed"):
        return state
    try:
        with exits_are_errors():
            config = run.config()
        multi_rank = config.trainer.ranks > 1
        if state == "running" and not multi_rank:  # else rank 0 may have begun
            return state
        if RunFolder.of(config).path.resolve() != run.path.resolve():
            raise ConfigError(f"{run.path}: its config.yaml is of {RunFolder.of(config).path}")
        summary = train(config)
    except LeaseLost:
        if multi_rank:
            sys.exit(1)
        return "running"
    except LeaseHeld:
        return "running"
    except Exception as error:
        if disk_fault(error):
            raise  # the run is interrupted, and others would meet the same fault
        record_failure(run, error, multi_rank)
        return "failed"
    except Interrupted as interruption:  # before the run's own handlers, or of several ranks
        if multi_rank:
            leave_unless_first_rank()
        summary = {"status": "interrupted", "signal": str(interruption)}
    if summary["status"] == "interrupted":
        if "step" not in summary and current_job() is not None:
            fail_if_no_progress(run)
        raise Stopped(summary["signal"])
    return str(summary["status"])


def record_failure(run: RunFolder, error: Exception, multi_rank: bool) -> None:
    """Log an error and write it to the run's summary; a run of several ranks ends its process."""
    recorded = run.state() == "failed"  # with its traceback, in the run's log
    kind, message = type(error).__name__, str(error)
    logger.error("%s failed: %s: %s", run.path.name, kind, message, exc_info=not recorded)
    if multi_rank:
        sys.exit(1)
    if not recorded:
        try:
            run.finish("failed", error=f"{kind}: {message}")
        except OSError as damage:  # of this folder, or of the whole disk; others may be well
            logger.error("%s: the failure cannot be recorded: %s", run.path, damage)


def leave_unless_first_rank() -> None:
    """End this process unless it is rank 0, which decides what becomes of an interrupted run.

    Rank 0 had the signal too; or it died, and srun ends this process because of that.
    """
    from suite.system import distributed

    rank, *_ = distributed.launcher_rank()
    if rank > 0:
        sys.exit(1)


def wait_and_run(run: RunFolder) -> None:
    """Take a run over from an owner that died with its node; its lease expires after a while."""
    deadline = time.monotonic() + EXPIRY_SECONDS + 2 * RENEWAL_SECONDS
    while run.state() == "running" and time.monotonic() < deadline:
        time.sleep(RENEWAL_SECONDS / 5)
    run_one(run)


def fail_if_no_progress(run: RunFolder) -> None:
    """Record a stop before the first step; fail the run after several in a row.

    Otherwise a job whose time limit is too short for its run to begin would be requeued for ever.
    """
    run.record_event("stopped early", run.progress().get("step") or 0)
    steps = [step for event, step in run.events() if event == "stopped early"]
    steps = steps[-MAX_FAILED_STARTS:]
    if len(steps) == MAX_FAILED_STARTS and len(set(steps)) == 1:
        times = f"told to stop {MAX_FAILED_STARTS} times in a row before it took a step"
        run.finish("failed", error=f"{times}: its jobs are too short; the profile has minutes")


def check_folder(runs: Sequence[Path]) -> None:
    """End the process with one sentence where this node cannot write the results."""
    try:
        for folder in {path.parents[1] for path in runs}:
            check_writable(folder)
    except ConfigError as error:
        sys.exit(f"suite: on node {platform.node()}: {error}; all nodes must share that folder")


def warn_of_other_code(runs: Sequence[Path]) -> None:
    """Log a warning where the code has changed since the job was submitted."""
    job = current_job()
    if job is None or not runs:
        return
    submitted, current = Jobs(runs[0].parents[1]).commit_of(job), git_commit()
    if submitted is not None and submitted != current:
        logger.warning("the code is at %s now and was at %s at submission", current, submitted)
