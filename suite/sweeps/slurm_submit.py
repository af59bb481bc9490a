"""Submit the pending runs of a sweep to SLURM as job arrays, and a job that writes the report."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from filelock import FileLock

from suite.config.fields import ConfigError
from suite.runs.environment import git_commit
from suite.runs.folder import make_folder
from suite.sweeps.choices import next_stage
from suite.sweeps.launching import pending_runs, prepare_runs
from suite.sweeps.slurm_executor import make_executor, submit_array, submitit_parameters
from suite.sweeps.slurm_jobs import Jobs, chunks, max_array_size
from suite.sweeps.slurm_options import is_of_the_work
from suite.sweeps.slurm_profile import Profile
from suite.sweeps.spec import Sweep


def submit(sweep: Sweep, profile: Profile, retry: bool) -> list[str]:
    """Submit the pending runs that are not in the queue; return the ids of the new jobs.

    Raises ConfigError where SLURM refuses, with its message.
    """
    check_ranks(sweep, profile)
    make_folder(sweep.folder)
    jobs = Jobs(sweep.folder)
    with FileLock(sweep.folder / ".submit.lock"):  # or two launchers would submit the same runs
        in_queue = jobs.by_run(jobs.active())
        prepare_runs(sweep, retry, in_queue)
        folders = list(pending_runs(sweep, in_queue).values())
        if not folders:
            return []
        elements = [list(chunk) for chunk in chunks(folders, profile.runs_per_job)]
        submitted: list[str] = []
        for array in chunks(elements, max_array_size()):
            try:
                with signals_blocked():  # jobs that are not recorded would be submitted again
                    runs = submit_array(sweep, profile, list(array))
                    jobs.add(runs, commit=git_commit(), submitted=time.time())
            except ConfigError as error:
                before = f"; {len(submitted)} jobs were submitted before that" if submitted else ""
                raise ConfigError(f"{error}{before}") from None
            submitted += runs
    return submitted


def check_ranks(sweep: Sweep, profile: Profile) -> None:
    """Raise ConfigError unless the profile's jobs suit runs of several ranks."""
    trainer = next(iter(sweep.points.values())).trainer
    shapes = {(c.trainer.devices, c.trainer.num_nodes) for c in sweep.points.values()}
    if len(shapes) > 1:
        raise ConfigError(
            "all runs of a sweep must have the same trainer.devices and trainer.num_nodes, found"
            f" {', '.join(f'{devices} and {nodes}' for devices, nodes in sorted(shapes))}"
        )
    if trainer.ranks > 1 and profile.runs_per_job > 1:
        raise ConfigError(
            f"runs_per_job must be 1 with trainer.devices={trainer.devices} and"
            f" trainer.num_nodes={trainer.num_nodes}, found {profile.runs_per_job}"
        )
    gpus = int(profile.gpus.rpartition(":")[2])
    if trainer.ranks > 1 and trainer.accelerator != "cpu" and gpus not in (0, trainer.devices):
        raise ConfigError(
            f"gpus must give a node the {trainer.devices} of trainer.devices, found {profile.gpus}"
        )


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Delay SIGINT, SIGTERM and SIGHUP until the block has ended."""
    previous = signal.pthread_sigmask(
        signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    )
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def submit_report(
    sweep: Sweep,
    profile: Profile,
    after: list[str],
    write_report: Callable[[Sweep, str], object],
    command: str,
) -> None:
    """Submit a job that calls `write_report(sweep, command)` when the jobs `after` have ended.

    It runs however they ended. It has one task and no GPU.
    """
    arrays = sorted({job.partition("_")[0] for job in after})
    options = {n: v for n, v in profile.options.items() if not is_of_the_work(n)}
    single = replace(profile, gpus="0", runs_per_job=1, side_by_side=None, options=options)
    stage = next_stage(sweep, retry=False)
    dependency = {"dependency": f"afterany:{':'.join(arrays)}"}
    executor = make_executor(stage, profile)
    executor.update_parameters(
        **submitit_parameters(stage, single) | {"nodes": 1, "ntasks_per_node": 1} | dependency
    )
    with signals_blocked():
        job = executor.submit(write_report, sweep, command)
        Jobs(sweep.folder).add({job.job_id: []}, submitted=time.time())
