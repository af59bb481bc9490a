"""Submit a sweep's runs as processes on this machine; the only file that imports submitit."""

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import submitit

from suite.monitor import Monitor
from suite.results import RunFolder
from suite.sweep import Sweep
from suite.work import work

logger = logging.getLogger(__name__)
POLL_SECONDS = 1.0
A_MONTH = 60 * 24 * 30  # minutes; submitit's local jobs end after two minutes unless told


class Outcome(NamedTuple):
    """How launching ended."""

    all_finished: bool
    stopped: bool


class Launcher:
    """Keep workers running until every run of a sweep is finished or failed."""

    def __init__(self, sweep: Sweep, parallel: int) -> None:
        self.runs = [RunFolder.of(config) for config in sweep.points.values()]
        self.parallel = parallel
        self.logs = sweep.folder / "logs"
        self.executor = submitit.LocalExecutor(folder=self.logs)
        self.executor.update_parameters(timeout_min=A_MONTH, stderr_to_stdout=True)
        self.jobs: list[submitit.Job[None]] = []
        self.stop_requested = False
        self.monitor = Monitor(sweep.name, self.runs)

    def __call__(self) -> Outcome:
        """Run everything that is left, or until told to stop."""
        with self.stopping_on_ctrl_c(), self.monitor:
            while self.tend():
                self.monitor.update()
                time.sleep(POLL_SECONDS)
            self.monitor.update()
        finished = all(run.state() == "finished" for run in self.runs)
        return Outcome(finished, self.stop_requested)

    def tend(self) -> bool:
        """Replace dead workers; return whether anything is still going on."""
        ended = [job for job in self.jobs if job.done()]
        self.jobs = [job for job in self.jobs if job not in ended]
        for job in ended:
            self.note_death(job)
        states = [run.state() for run in self.runs]
        waiting = sum(state in ("queued", "interrupted") for state in states)
        if not self.stop_requested:
            for _ in range(min(waiting, self.parallel - len(self.jobs))):
                self.jobs.append(self.start_worker())
            return bool(self.jobs) or "running" in states
        return bool(self.jobs)

    def start_worker(self) -> "submitit.Job[None]":
        """Start a process that works through the runs."""
        # A worker must not see Ctrl-C, which the terminal sends to the whole group: a process
        # started while SIGINT is ignored ignores it, and the launcher passes the wish on.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return self.executor.submit(work, [run.path for run in self.runs])
        finally:
            signal.signal(signal.SIGINT, before)

    def note_death(self, job: "submitit.Job[None]") -> None:
        """Mark the run that a worker was at when it died of something no handler could catch."""
        if self.stop_requested or job.exception() is None:
            return
        for run in self.runs:
            own = str(run.progress().get("job")) == job.job_id
            if own and run.state() == "interrupted":
                run.finish("failed", error=f"its process died; see {job.paths.stdout}")

    @contextmanager
    def stopping_on_ctrl_c(self) -> Iterator[None]:
        """Let Ctrl-C or SIGTERM stop all workers at their next step, with a checkpoint each."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.stop_requested = True
            self.monitor.say("stopping: every run saves a checkpoint; the same command goes on")
            for job in self.jobs:
                os.kill(int(job.job_id), signal.SIGTERM)  # a local job's id is its process id

        before = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def prepare(sweep: Sweep, retry: bool) -> None:
    """Make the run folders, and queue failed runs again where `retry` asks for it."""
    for config in sweep.points.values():
        run = RunFolder.of(config)
        if run.state() == "queued":
            run.create(config)
        elif retry and run.state() == "failed":
            (run.path / "summary.json").unlink(missing_ok=True)


def launch(sweep: Sweep, parallel: int | None, retry: bool) -> Outcome:
    """Run what is left of a sweep on this machine."""
    prepare(sweep, retry)
    threads = max(config.trainer.threads for config in sweep.points.values())
    # Libraries read this when they are imported: runs side by side must not fight for cores.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).parents[1]))
    workers = parallel or max(1, available_cores() // threads)
    return Launcher(sweep, workers)()


def available_cores() -> int:
    """Return the cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
