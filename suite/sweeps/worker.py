"""What one worker process of a sweep does: claim runs one after another, and train them."""

import logging
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from suite.config.fields import ConfigError
from suite.runs.folder import RunFolder, check_writable, git_commit
from suite.runs.lease import DEAD, RENEWED, LeaseHeld, LeaseLost
from suite.sweeps.slurm_jobs import Jobs
from suite.system.job import choose_gpu, own_job
from suite.system.logs import set_up_logging, silence_libraries
from suite.system.signals import STOPPED, TOO_EARLY, Interrupted, Stopped, interruptible

logger = logging.getLogger(__name__)
MAX_FAILED_STARTS = 5  # attempts


def run_worker(runs: Sequence[Path]) -> None:
    """Work through runs that no other process holds.

    A run that fails is recorded and left behind; the next one follows. After a stop signal the
    run in progress saves a checkpoint and the worker ends; the exit code of a SLURM job's worker
    then has the batch script put the job back into the queue (requeue.sh).
    """
    try:
        if len(runs) > 1:
            choose_gpu()  # before torch looks
        with interruptible():  # until here submitit's own handlers are in place
            set_up_logging()
            silence_libraries()
            check_folder(runs)
            warn_of_other_code(runs)
            for path in runs:
                run_one(RunFolder(path))
            if own_job() is not None:
                for path in runs:
                    wait_and_run(RunFolder(path))
    except Interrupted as interruption:
        job = own_job()
        if job is None:
            return
        if not isinstance(interruption, Stopped):
            sys.exit(TOO_EARLY)
        with suppress(OSError):  # then the exit code has to do
            Jobs(runs[0].parents[1]).mark_stopped(job)
        sys.exit(STOPPED)


def wait_and_run(run: RunFolder) -> None:
    """Take a run over from an owner that died with its node, whose claim holds for a while."""
    deadline = time.monotonic() + DEAD + 2 * RENEWED
    while run.state() == "running" and time.monotonic() < deadline:
        time.sleep(RENEWED / 5)
    run_one(run)


def fail_if_no_progress(run: RunFolder) -> None:
    """Fail a run that was told to stop several times in a row before it took a step.

    A job that is shorter than what its run needs to begin would be requeued for ever.
    """
    run.note("stopped early", run.progress().get("step") or 0)
    last = [step for what, step in run.notes() if what == "stopped early"][-MAX_FAILED_STARTS:]
    if len(last) == MAX_FAILED_STARTS and len(set(last)) == 1:
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
    """Say so where a job runs other code than there was when it was submitted."""
    job = own_job()
    if job is None or not runs:
        return
    then, now = Jobs(runs[0].parents[1]).commit_of(job), git_commit()
    if then is not None and then != now:
        logger.warning("the code is at %s now and was at %s at submission", now, then)


def run_one(run: RunFolder) -> str:
    """Train a run unless it is finished, failed, or somebody else's; return what became of it.

    Raises Stopped after a stop signal; of several ranks one that fails ends the process, so that
    srun ends the others, which may wait for it.
    """
    from suite.system import distributed
    from suite.train import train

    state, several = run.state(), False
    if state in ("finished", "failed"):
        return state
    try:
        config = run.config()
        several = config.trainer.ranks > 1
        if state == "running" and not several:  # else rank 0 may have begun
            return state
        if RunFolder.of(config).path.resolve() != run.path.resolve():
            raise ConfigError(f"{run.path}: its config.yaml is of {RunFolder.of(config).path}")
        summary = train(config)
    except LeaseLost:
        if several:
            sys.exit(1)
        return "running"
    except LeaseHeld:
        return "running"
    except Exception as error:
        recorded = run.state() == "failed"  # with its traceback, in the run's log
        logger.error("%s failed: %s: %s", run.path.name, *named(error), exc_info=not recorded)
        if several:
            sys.exit(1)
        if not recorded:
            run.finish("failed", error=": ".join(named(error)))
        return "failed"
    except Interrupted as interruption:  # before the run's own handlers, or of several ranks
        if several and distributed.launcher_rank()[0] > 0:
            sys.exit(1)  # rank 0 was told too; or it died, and srun ends this one for it
        summary = {"status": "interrupted", "signal": str(interruption)}
    if summary["status"] == "interrupted":
        if "step" not in summary and own_job() is not None:
            fail_if_no_progress(run)
        raise Stopped(summary["signal"])
    return str(summary["status"])


def named(error: Exception) -> tuple[str, str]:
    """Return an error's kind and words."""
    return type(error).__name__, str(error)
