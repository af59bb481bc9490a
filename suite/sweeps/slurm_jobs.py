"""What SLURM knows of a sweep: its jobs are noted in the sweep's folder, their states asked for."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from suite.config.fields import ConfigError
from suite.system.files import read_json, write_json

PATIENCE = 60  # seconds that a busy controller may take to answer
ENDING = ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE")


class Entry(NamedTuple):
    """A job, or an element of an array, that waits or runs."""

    name: str
    state: str  # SLURM's, as in PENDING
    reason: str  # why it waits, as in Resources

    def __str__(self) -> str:
        waits = self.state == "PENDING" and self.reason not in ("", "None")
        return f"{self.state} ({self.reason})" if waits else self.state


def ask(*command: str) -> str:
    """Return what one of SLURM's commands prints; raises ConfigError with its own words."""
    if shutil.which(command[0]) is None:
        raise ConfigError(f"SLURM is not installed here: there is no {command[0]}")
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE,
            env=os.environ | {"SLURM_BITSTR_LEN": "0"},  # or sacct cuts long arrays short
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{command[0]} did not answer within {PATIENCE} seconds") from None
    if done.returncode:
        words = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise ConfigError(f"{command[0]}: {words}")
    return done.stdout


def queue() -> dict[str, Entry]:
    """Return this user's jobs that wait or run, array elements one by one, by id."""
    lines = ask("squeue", "--noheader", "--array", "--me", "--format=%i|%T|%r|%j").splitlines()
    found = (line.strip().split("|", 3) for line in lines if line.count("|") >= 3)
    return {
        job: Entry(name, state, reason) for job, state, reason, name in found if state not in ENDING
    }


def states_of(name: str, jobs: set[str]) -> dict[str, str]:
    """Return the states of jobs of a name by id: from accounting, else what squeue remembers."""
    if not jobs:
        return {}
    arrays = ",".join(sorted({job.partition("_")[0] for job in jobs}))
    form = "--format=JobID,JobName,State"
    accounts = ("sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={arrays}", form)
    remembered = ("squeue", "--noheader", "--array", "--states=all", "--me", "--format=%i|%j|%T")
    found: dict[str, str] = {}
    for command in (accounts, remembered):
        try:
            rows = [line.strip().split("|") for line in ask(*command).splitlines()]
        except ConfigError:  # without accounting, or without SLURM
            continue
        told = {
            job: row[2].split()[0]
            for row in rows
            if len(row) == 3 and row[1] == name
            for job in elements_of(row[0])
        }
        found = {job: state for job, state in told.items() if job in jobs} | found
    return found


def elements_of(job: str) -> list[str]:
    """Return the ids that sacct's name for several elements stands for, as in `17_[0-2,5%4]`."""
    array, opened, inside = job.partition("_[")
    if not opened:
        return [job]
    found: list[str] = []
    for part in inside.rstrip("]").partition("%")[0].split(","):
        if not (numbers := re.fullmatch(r"(\d+)(?:-(\d+))?(?::(\d+))?", part)):
            continue  # cut short, as `...`
        first, last, step = (int(number or 0) for number in numbers.groups())
        found += [f"{array}_{i}" for i in range(first, max(first, last) + 1, step or 1)]
    return found


def largest_array() -> int:
    """Return how many elements an array may have here."""
    for line in ask("scontrol", "show", "config").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize":
            if int(value) < 2:
                raise ConfigError("this cluster allows no job arrays: its MaxArraySize is 0")
            return int(value)
    raise ConfigError("scontrol show config names no MaxArraySize")


class Jobs:
    """The jobs of a sweep, noted in its folder: jobs/<id>.json, with the runs of every element."""

    def __init__(self, sweep_folder: Path) -> None:
        self.folder = sweep_folder / "jobs"
        self.name = f"suite-{sweep_folder.name}"  # ids begin again where a cluster is set up anew

    def note(self, elements: dict[str, list[str]], **facts: Any) -> None:
        """Remember a submission: the names of runs by id of job or element."""
        self.folder.mkdir(parents=True, exist_ok=True)
        first = next(iter(elements)).partition("_")[0]
        write_json(self.folder / f"{first}.json", {**facts, "elements": elements})

    def elements(self) -> dict[str, list[str]]:
        """Return the runs of all jobs that were ever submitted, by id."""
        found: dict[str, list[str]] = {}
        for path in sorted(self.folder.glob("*.json"), key=lambda path: int(path.stem)):
            found |= (read_json(path) or {}).get("elements", {})
        return found

    def commit_of(self, job: str) -> str | None:
        """Return the commit at which a job was submitted; None where that is not noted."""
        note = read_json(self.folder / f"{job.partition('_')[0]}.json") or {}
        return note.get("commit")

    def mark_stopped(self, job: str) -> None:
        """Tell the job's batch script, which waits for all processes, to requeue it."""
        attempt = os.environ.get("SLURM_RESTART_COUNT", "0")  # or a later one would find it
        (self.folder / f"{job}.{attempt}.stopped").touch()

    def active(self) -> dict[str, Entry]:
        """Return those of the jobs that wait or run, by id; raises ConfigError without SLURM."""
        noted = self.elements()
        waiting = queue() if noted else {}
        return {job: e for job, e in waiting.items() if job in noted and e.name == self.name}

    def endings(self, runs: Iterable[str]) -> dict[str, str]:
        """Return the last job of each run and how it ended, as in `17_3 TIMEOUT`, where known."""
        wanted = set(runs)
        last = {run: job for job, names in self.elements().items() for run in names}
        last = {run: job for run, job in last.items() if run in wanted}
        ended = states_of(self.name, set(last.values()))
        return {run: f"{job} {ended[job]}" for run, job in last.items() if job in ended}

    def by_run(self, active: dict[str, Entry]) -> dict[str, str]:
        """Return job and state of every run that one of the active jobs is for, by its name."""
        noted = self.elements()
        return {run: f"{job} {entry}" for job, entry in active.items() for run in noted[job]}


def cancel(sweep_folder: Path) -> int:
    """Cancel what waits or runs of a sweep; return how many jobs or elements that were."""
    active = Jobs(sweep_folder).active()
    if active:  # whole arrays: the controller keeps every element that it has to tell apart
        ask("scancel", *sorted({job.partition("_")[0] for job in active}))
    return len(active)


def pieces(items: Sequence[str], size: int) -> list[Sequence[str]]:
    """Cut a sequence into pieces of at most `size`."""
    return [items[i : i + size] for i in range(0, len(items), size)]
