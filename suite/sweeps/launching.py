"""What both launchers share: pending runs, the environment of workers, the outcome."""

import os
import site
import sys
from collections.abc import Container, Iterable
from pathlib import Path
from typing import NamedTuple

from suite.config.fields import ConfigError
from suite.runs.folder import RunFolder
from suite.sweeps.spec import Sweep
from suite.sweeps.states import state_of
from suite.system.plain_text import plain

IN_THE_WAY = (
    *(ConfigError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError),
)


class Outcome(NamedTuple):
    """How launching ended."""

    all_finished: bool
    stopped: bool  # by the user


def outcome_of(stages: Iterable[Outcome]) -> Outcome:
    """Return how a sweep ended whose stages run while they are asked for, until one is stopped."""
    all_finished = True
    for outcome in stages:
        all_finished = all_finished and outcome.all_finished
        if outcome.stopped:
            return Outcome(all_finished=False, stopped=True)
    return Outcome(all_finished, stopped=False)


def prepare_runs(sweep: Sweep, retry: bool, in_queue: Container[str] = ()) -> None:
    """Make the run folders, and queue failed runs again where `retry` asks for it.

    `in_queue` has the names of runs that belong to waiting or running jobs; these are left alone.
    """
    for config in sweep.points.values():
        run = RunFolder.of(config)
        if run.path.name in in_queue:
            continue
        state = state_of(run)
        try:
            if state in ("queued", "interrupted", "failed"):
                run.create(config)  # again, since folder and logging are not part of the signature
            if retry and state == "failed":
                (run.path / "summary.json").unlink(missing_ok=True)
        except IN_THE_WAY as error:
            # Something else lies there: the worker records it as this run's failure.
            print(f"suite: {plain(run.path)}: {plain(error)}", file=sys.stderr)


def pending_runs(sweep: Sweep, in_queue: Container[str]) -> dict[str, Path]:
    """Return the folders, by run name, of runs that are neither `in_queue` nor done."""
    folders = {}
    for config in sweep.points.values():
        run = RunFolder.of(config)
        if run.path.name not in in_queue and state_of(run) in ("queued", "interrupted"):
            folders[run.path.name] = run.path.absolute()
    return folders


def set_worker_environment(sweep: Sweep) -> int:
    """Set what workers inherit through `os.environ`; return the number of threads of each."""
    threads = max(config.trainer.threads for config in sweep.points.values())
    # Libraries read this when they are imported: runs side by side must not compete for cores.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if path := worker_python_path(os.environ.get("PYTHONPATH", "")):
        os.environ["PYTHONPATH"] = path
    return threads


def worker_python_path(current: str) -> str:
    """Return the PYTHONPATH with which workers import this package, from the `current` one.

    A checkout need not be installed, so its folder comes first. An installed package is found
    without PYTHONPATH; its site-packages would precede the standard library there, and reach
    another interpreter where a profile names one.
    """
    source = Path(__file__).resolve().parents[2]
    installed = {Path(path).resolve() for path in site.getsitepackages()}
    if source in installed | {Path(site.getusersitepackages()).resolve()}:
        return current
    entries = current.split(os.pathsep) if current else []
    return os.pathsep.join(dict.fromkeys([str(source), *entries]))
