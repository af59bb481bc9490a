"""What one worker process of a sweep does: claim runs one after another, and train them."""

import logging
from collections.abc import Sequence
from pathlib import Path

from suite.claims import Claimed
from suite.keys import ConfigError
from suite.logs import set_up_logging, silence_libraries
from suite.results import RunFolder, git_commit
from suite.signals import NOTICE, Interrupted, interruptible
from suite.slurm import Jobs, choose_gpu, own_job, requeue, runs_still

logger = logging.getLogger(__name__)


def work(runs: Sequence[Path]) -> None:
    """Work through runs that no other process holds.

    A run that fails is recorded and left behind; the next one follows. After a stop signal the
    run in progress saves a checkpoint and the worker ends; where it is SLURM's that a limit or a
    preemption is near, the job goes back into the queue.
    """
    try:
        choose_gpu()  # before torch looks
        with interruptible():  # until here submitit swallows SIGTERM
            set_up_logging()
            silence_libraries()
            warn_of_other_code(runs)
            for path in runs:
                attempt(RunFolder(path))
    except Interrupted as interruption:
        # Without a notice SIGTERM may also mean preemption; a cancelled job runs no longer.
        if str(interruption) == NOTICE.name or runs_still():
            requeue()


def warn_of_other_code(runs: Sequence[Path]) -> None:
    """Say so where a job runs other code than there was when it was submitted."""
    job = own_job()
    if job is None or not runs:
        return
    then, now = Jobs(runs[0].parents[1]).commit_of(job), git_commit()
    if then is not None and then != now:
        logger.warning("the code is at %s now and was at %s at submission", now, then)


def attempt(run: RunFolder) -> str:
    """Train a run unless it is finished, failed, or somebody else's; return what became of it.

    Raises Interrupted after a stop signal.
    """
    from suite.train import train

    state = run.state()
    if state in ("finished", "failed", "running"):
        return state
    try:
        config = run.config()
        if RunFolder.of(config).path.resolve() != run.path.resolve():
            raise ConfigError(f"{run.path}: its config.yaml is of {RunFolder.of(config).path}")
        summary = train(config)
    except Claimed:
        return "running"
    except Exception as error:
        logger.exception("%s failed", run.path.name)
        if run.state() != "failed":  # it failed before it could say so itself
            run.finish("failed", error=f"{type(error).__name__}: {error}")
        return "failed"
    if summary["status"] == "interrupted":
        raise Interrupted(summary["signal"])
    return str(summary["status"])
