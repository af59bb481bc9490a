"""The SLURM jobs of a sweep: recorded in the sweep's folder, and their states asked from SLURM."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from suite.config.fields import ConfigError
from suite.system.files import read_json, write_json

TIMEOUT_SECONDS = 60  # a busy controller may take long to answer
ENDED = ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE")
T = TypeVar("T")


class QueuedJob(NamedTuple):
    """A job, or an element of an array, that waits or runs."""

    name: str
    state: str  # SLURM's, as in PENDING
    reason: str  # why it waits, as in Resources

    def __str__(self) -> str:
        waits = self.state == "PENDING" and self.reason not in ("", "None")
        return f"{self.state} ({self.reason})" if waits else self.state


def run_slurm(*command: str) -> str:
    """Return the output of a SLURM command; raises ConfigError with SLURM's error message."""
    if shutil.which(command[0]) is None:
        raise ConfigError(f"SLURM is not installed here: there is no {command[0]}")
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS,
            env=os.environ | {"SLURM_BITSTR_LEN": "0"},  # or sacct cuts long arrays short
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{command[0]} did not answer within {TIMEOUT_SECONDS} seconds") from None
    if result.returncode:
        message = " ".join(result.stderr.split()) or f"exit code {result.returncode}"
        raise ConfigError(f"{command[0]}: {message}")
    return result.stdout


def queued_jobs() -> dict[str, QueuedJob]:
    """Return this user's jobs and array elements that wait or run, by id."""
    output = run_slurm("squeue", "--noheader", "--array", "--me", "--format=%i|%T|%r|%j")
    rows = (line.strip().split("|", 3) for line in output.splitlines() if line.count("|") >= 3)
    return {
        job: QueuedJob(name, state, reason)
        for job, state, reason, name in rows
        if state not in ENDED
    }


def job_states(name: str, jobs: set[str]) -> dict[str, str]:
    """Return the states of jobs of one name, by id.

    They come from accounting, else from squeue, which remembers ended jobs for some minutes.
    """
    if not jobs:
        return {}
    arrays = ",".join(sorted({job.partition("_")[0] for job in jobs}))
    form = "--format=JobID,JobName,State"
    sacct = ("sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={arrays}", form)
    squeue = ("squeue", "--noheader", "--array", "--states=all", "--me", "--format=%i|%j|%T")
    states: dict[str, str] = {}
    for command in (sacct, squeue):
        try:
            rows = [line.strip().split("|") for line in run_slurm(*command).splitlines()]
        except ConfigError:  # without accounting, or without SLURM
            continue
        answers = {
            job: row[2].split()[0]
            for row in rows
            if len(row) == 3 and row[1] == name
            for job in expand_id(row[0])
        }
        states = {job: state for job, state in answers.items() if job in jobs} | states
    return states


def expand_id(job: str) -> list[str]:
    """Return the ids of all elements in sacct's id of several, as in `17_[0-2,5%4]`."""
    array, bracket, ranges = job.partition("_[")
    if not bracket:
        return [job]
    ids: list[str] = []
    for text in ranges.rstrip("]").partition("%")[0].split(","):
        if not (numbers := re.fullmatch(r"(\d+)(?:-(\d+))?(?::(\d+))?", text)):
            continue  # cut short, as `...`
        first, last, step = (int(number or 0) for number in numbers.groups())
        ids += [f"{array}_{i}" for i in range(first, max(first, last) + 1, step or 1)]
    return ids


def max_array_size() -> int:
    """Return how many elements an array may have on this cluster; raises ConfigError."""
    for line in run_slurm("scontrol", "show", "config").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize":
            if int(value) < 2:
                raise ConfigError("this cluster allows no job arrays: its MaxArraySize is 0")
            return int(value)
    raise ConfigError("scontrol show config names no MaxArraySize")


class Jobs:
    """The jobs of a sweep, recorded as jobs/<id>.json with the run names of every element."""

    def __init__(self, sweep_folder: Path) -> None:
        self.folder = sweep_folder / "jobs"
        self.name = f"suite-{sweep_folder.name}"  # ids begin again where a cluster is set up anew

    def add(self, elements: dict[str, list[str]], **facts: Any) -> None:
        """Record a submission: the run names by id of job or element, and further facts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        first = next(iter(elements)).partition("_")[0]
        write_json(self.folder / f"{first}.json", {**facts, "elements": elements})

    def elements(self) -> dict[str, list[str]]:
        """Return the run names of all jobs that were ever submitted, by id."""
        runs: dict[str, list[str]] = {}
        for path in self.records():
            elements = (read_json(path) or {}).get("elements")
            if not isinstance(elements, dict):
                continue  # damaged, or of something else
            for job, names in elements.items():
                if isinstance(names, list) and all(isinstance(name, str) for name in names):
                    runs[job] = names
        return runs

    def records(self) -> list[Path]:
        """Return the files of submissions, oldest first; others in the folder are left alone."""
        files = [path for path in self.folder.glob("*.json") if path.is_file()]
        numbered = [path for path in files if re.fullmatch(r"[0-9]{1,18}", path.stem)]
        return sorted(numbered, key=lambda path: int(path.stem))

    def commit_of(self, job: str) -> str | None:
        """Return the commit at which a job was submitted; None where that is not recorded."""
        record = read_json(self.folder / f"{job.partition('_')[0]}.json") or {}
        commit = record.get("commit")
        return commit if isinstance(commit, str) else None

    def mark_stopped(self, job: str) -> None:
        """Ask the job's batch script, which waits for all processes, to requeue the job."""
        attempt = os.environ.get("SLURM_RESTART_COUNT", "0")  # a later attempt must not find it
        (self.folder / f"{job}.{attempt}.stopped").touch()

    def active(self) -> dict[str, QueuedJob]:
        """Return the jobs that wait or run, by id; raises ConfigError without SLURM."""
        runs = self.elements()
        queue = queued_jobs() if runs else {}
        return {id_: job for id_, job in queue.items() if id_ in runs and job.name == self.name}

    def endings(self, runs: Iterable[str]) -> dict[str, str]:
        """Return the last job of each run and how it ended, as in `17_3 TIMEOUT`, where known."""
        wanted = set(runs)
        last = {run: job for job, names in self.elements().items() for run in names}
        last = {run: job for run, job in last.items() if run in wanted}
        states = job_states(self.name, set(last.values()))
        return {run: f"{job} {states[job]}" for run, job in last.items() if job in states}

    def by_run(self, active: dict[str, QueuedJob]) -> dict[str, str]:
        """Return id and state of the active job of each run, by run name."""
        runs = self.elements()
        return {run: f"{id_} {job}" for id_, job in active.items() for run in runs.get(id_, [])}


def cancel(sweep_folder: Path) -> int:
    """Cancel the waiting and running jobs of a sweep; return how many jobs or elements."""
    active = Jobs(sweep_folder).active()
    if active:  # whole arrays, since the controller handles a list of elements slowly
        run_slurm("scancel", *sorted({job.partition("_")[0] for job in active}))
    return len(active)


def chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Cut a sequence into consecutive chunks of at most `size`."""
    return [items[i : i + size] for i in range(0, len(items), size)]
