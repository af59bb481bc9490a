"""Submit what is left of a sweep to SLURM through submitit, one array for all, and follow it."""

import math
import os
import shlex
import signal
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import submitit
from filelock import FileLock
from submitit.core.utils import FailedJobError, FailedSubmissionError

from suite.config.fields import ConfigError
from suite.report.page import write_report
from suite.runs.folder import RunFolder, git_commit
from suite.sweeps.local import Outcome, prepare
from suite.sweeps.monitor import Monitor
from suite.sweeps.slurm_jobs import Jobs, largest_array, pieces
from suite.sweeps.slurm_profile import Profile
from suite.sweeps.spec import Sweep
from suite.sweeps.status import endings
from suite.sweeps.worker import run_worker

POLL_SECONDS = 3.0  # between looks at the run folders
ASK_SECONDS = 10.0  # between questions to the controller
REQUEUE = Path(__file__).with_name("requeue.sh")
SETTLING_SECONDS = 60.0  # until what a node wrote is seen here, through a shared file system


def submit(sweep: Sweep, profile: Profile, retry: bool) -> list[str]:
    """Submit the runs that are left and not in the queue yet; return the ids of what was new.

    Raises ConfigError where SLURM refuses, with its words.
    """
    check_ranks(sweep, profile)
    sweep.folder.mkdir(parents=True, exist_ok=True)
    jobs = Jobs(sweep.folder)
    with FileLock(sweep.folder / ".submit.lock"):  # or two launchers would submit the same runs
        taken = jobs.by_run(jobs.active())
        prepare(sweep, retry, taken)
        runs = pending_runs(sweep, taken)
        submitted: list[str] = []
        together = pieces(list(runs), profile.runs_per_job)
        for some in pieces(together, largest_array()) if together else []:  # type: ignore[arg-type]
            parts = [[runs[name] for name in part] for part in some]
            try:
                with signals_blocked():  # jobs that nobody knows of would be submitted again
                    elements = submit_array(sweep, profile, parts)
                    jobs.note(elements, commit=git_commit(), submitted=time.time())
            except ConfigError as error:
                before = f"; {len(submitted)} jobs were submitted before that" if submitted else ""
                raise ConfigError(f"{error}{before}") from None
            submitted += elements
    return submitted


def check_ranks(sweep: Sweep, profile: Profile) -> None:
    """Raise ConfigError where the profile's jobs are not what runs of several ranks need."""
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
    """Put off Ctrl-C and the like until the block has ended."""
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    )
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def submit_report(sweep: Sweep, profile: Profile, after: list[str], command: str) -> None:
    """Submit the writing of the report, for when the jobs have ended in whatever way."""
    arrays = sorted({job.partition("_")[0] for job in after})
    settings = parameters(sweep, replace(profile, gpus="0", runs_per_job=1, side_by_side=None))
    executor = executor_for(sweep, profile)
    alone = {"nodes": 1, "ntasks_per_node": 1, "dependency": f"afterany:{':'.join(arrays)}"}
    executor.update_parameters(**settings | alone)
    with signals_blocked():
        job = executor.submit(write_report, sweep, command)
        Jobs(sweep.folder).note({job.job_id: []}, submitted=time.time())


def pending_runs(sweep: Sweep, taken: Container[str]) -> dict[str, Path]:
    """Return the runs that are not `taken` and not done, by name."""
    found = {}
    for config in sweep.points.values():
        run = RunFolder.of(config)
        if run.path.name not in taken and run.state() in ("queued", "interrupted"):
            found[run.path.name] = run.path.resolve()
    return found


def submit_array(sweep: Sweep, profile: Profile, parts: list[list[Path]]) -> dict[str, list[str]]:
    """Submit one array; return the names of the runs of each element, by its id."""
    executor = executor_for(sweep, profile)
    try:
        with redirect_stderr(StringIO()):  # where submitit repeats what sbatch says
            submitted = executor.map_array(run_worker, parts)
    except (FailedJobError, FailedSubmissionError) as error:
        raise ConfigError(f"sbatch refused the job: {refusal(str(error))}") from None
    return {
        job.job_id: [path.name for path in part] for job, part in zip(submitted, parts, strict=True)
    }


def refusal(words: str) -> str:
    """Return what sbatch complained of among the lines that came with its failure."""
    mark = "sbatch: error: "
    complaints = [line.partition(mark)[2] for line in words.splitlines() if mark in line]
    return "; ".join(dict.fromkeys(complaints)) or words.strip()


def executor_for(sweep: Sweep, profile: Profile) -> submitit.SlurmExecutor:
    """Return what submits with a profile's resources; raises ConfigError without SLURM."""
    threads = max(config.trainer.threads for config in sweep.points.values())
    # The job inherits this environment. Runs side by side must not fight for cores.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).parents[2]))
    python = " ".join(part for part in (profile.container, profile.python) if part)
    if profile.container and not profile.python:
        python += " python"
    try:
        executor = submitit.SlurmExecutor(sweep.folder / "logs", python=python or None)
    except RuntimeError:
        raise ConfigError("SLURM is not installed here: there is no srun") from None
    executor.update_parameters(**parameters(sweep, profile))
    return executor


def parameters(sweep: Sweep, profile: Profile) -> dict[str, Any]:
    """Return a profile in submitit's words."""
    given = {
        name: getattr(profile, name)
        for name in (
            "partition",
            "account",
            "qos",
            "constraint",
            "exclude",
            "mail_user",
            "mail_type",
        )
    }
    jobs = Jobs(sweep.folder).folder.resolve()
    trainer = next(iter(sweep.points.values())).trainer  # who computes a run is no axis
    several = ["--kill-on-bad-exit=1"] if trainer.ranks > 1 else []  # or the others would wait
    gpus = {} if profile.gpus.rpartition(":")[2] == "0" else {"gres": f"gpu:{profile.gpus}"}
    return {
        "job_name": f"suite-{sweep.name}",
        "time": profile.minutes,
        "nodes": trainer.num_nodes,
        "ntasks_per_node": max(profile.workers, trainer.devices),
        "cpus_per_task": profile.cpus,
        "mem": f"{math.ceil(1024 * profile.memory_gb)}MB",
        "signal_delay_s": profile.notice_seconds,
        "array_parallelism": profile.at_once,
        "setup": [*profile.setup, "set +e"],  # the lines after srun must be reached
        "teardown": [f"set -- $? {shlex.quote(str(jobs))}\n{REQUEUE.read_text()}"],
        "stderr_to_stdout": True,
        # From 22.05 on srun does not take this over from the job.
        "srun_args": [f"--cpus-per-task={profile.cpus}", *several],
        "additional_parameters": {"requeue": True, **gpus, **flags(profile.options)},
        **{name: value for name, value in given.items() if value is not None},
    }


def flags(options: dict[str, str]) -> dict[str, str | bool]:
    """Return options of sbatch, those that take no value as True, or left out."""
    given = {name: value for name, value in options.items() if value.lower() != "false"}
    return {name: value.lower() == "true" or value for name, value in given.items()}


def script(sweep: Sweep, profile: Profile) -> str:
    """Return the text of the batch script, without its array."""
    executor = executor_for(sweep, profile)
    return str(executor._make_submission_file_text(executor._submitit_command_str, ""))


def follow(sweep: Sweep, command: str) -> Outcome:
    """Show how a submitted sweep goes on until all is done, or nothing of it waits or runs.

    Ctrl-C leaves the jobs to themselves.
    """
    runs = [RunFolder.of(config) for config in sweep.points.values()]
    monitor = Monitor(sweep.name, runs)
    with monitor:
        try:
            watch(Jobs(sweep.folder), monitor)
        except KeyboardInterrupt:
            monitor.say(
                f"the jobs go on; `{command}` comes back to them, `suite status {sweep.name}` shows"
                f" and `suite cancel {sweep.name}` ends them"
            )
            return Outcome(all_finished=False, stopped=True)
        say_what_is_left(monitor, sweep, command)
        for sentence in endings(sweep.folder, monitor.states):
            monitor.print_line(sentence)
    return Outcome(set(monitor.states.values()) == {"finished"}, stopped=False)


def watch(jobs: Jobs, monitor: Monitor) -> None:
    """Update the monitor until every run has ended, or for a while nothing waits or runs."""
    active, asked, quiet_since = jobs.active(), time.monotonic(), None
    while True:
        if time.monotonic() - asked > ASK_SECONDS:
            try:
                active = jobs.active()
                monitor.message = ""
            except ConfigError as error:  # a controller that restarts is no reason to stop
                monitor.say(f"{error}; asking again")
            asked = time.monotonic()
        monitor.update(jobs.by_run(active))
        states = set(monitor.states.values())
        if states <= {"finished", "failed"}:
            return
        if active or "running" in states:
            quiet_since = None
        else:
            quiet_since = quiet_since or time.monotonic()
            if time.monotonic() - quiet_since > SETTLING_SECONDS:
                return
        time.sleep(POLL_SECONDS)


def say_what_is_left(monitor: Monitor, sweep: Sweep, command: str) -> None:
    """Explain runs that are neither finished nor failed though no job of theirs is left."""
    states = list(monitor.states.values())
    if never := states.count("queued"):
        monitor.say(
            f"{never} runs never began: their jobs were cancelled or died early; check that the"
            f" nodes can write {sweep.folder.resolve()}; `{command}` submits them again"
        )
    if torn := states.count("interrupted"):
        monitor.say(f"{torn} runs were cut short and not requeued; `{command}` continues them")
