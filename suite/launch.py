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
MOST_FRUITLESS = 3  # workers that may die in a row without having begun a run
A_MONTH = 60 * 24 * 30  # minutes; submitit's local jobs end after two minutes unless told


class Outcome(NamedTuple):
    """How launching ended."""

    all_finished: bool
    stopped: bool  # by the user


class Launcher:
    """Keep workers running until every run of a sweep is finished or failed."""

    def __init__(self, sweep: Sweep, parallel: int, gpus: list[int]) -> None:
        self.runs = [RunFolder.of(config) for config in sweep.points.values()]
        self.parallel = parallel
        self.gpus = gpus
        self.logs = sweep.folder / "logs"
        self.executor = submitit.LocalExecutor(folder=self.logs)
        self.executor.update_parameters(timeout_min=A_MONTH, stderr_to_stdout=True)
        self.jobs: dict[submitit.Job[None], int | None] = {}  # with the GPU of each
        self.fruitless = 0
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
        return Outcome(finished, self.stop_requested and self.fruitless < MOST_FRUITLESS)

    def tend(self) -> bool:
        """Replace dead workers; return whether anything is still going on."""
        for job in [job for job in self.jobs if job.done()]:
            del self.jobs[job]
            self.note_end(job)
        states = [run.state() for run in self.runs]
        waiting = sum(state in ("queued", "interrupted") for state in states)
        if not self.stop_requested:
            for _ in range(min(waiting, self.parallel - len(self.jobs))):
                self.start_worker()
            return bool(self.jobs) or "running" in states
        return bool(self.jobs)

    def start_worker(self) -> None:
        """Start a process that works through the runs, on the least used GPU if there is one."""
        gpu = least_used(self.gpus, list(self.jobs.values()))
        self.executor.update_parameters(
            gpus_per_node=0 if gpu is None else 1, visible_gpus=() if gpu is None else (gpu,)
        )
        # A worker must not see Ctrl-C, which the terminal sends to the whole group: a process
        # started while SIGINT is ignored ignores it, and the launcher passes the wish on.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self.jobs[self.executor.submit(work, [run.path for run in self.runs])] = gpu
        finally:
            signal.signal(signal.SIGINT, before)

    def note_end(self, job: "submitit.Job[None]") -> None:
        """Mark the run that a worker was at when it died of something no handler could catch."""
        # A job without a result was killed; asking submitit would wait for the result to appear.
        if self.stop_requested or (job.paths.result_pickle.exists() and job.exception() is None):
            return
        blamed = [run for run in self.runs if was_at(job, run)]
        for run in blamed:
            run.finish("failed", error=f"its process died; see {job.paths.stdout}")
        self.fruitless = 0 if blamed else self.fruitless + 1
        if self.fruitless == MOST_FRUITLESS:
            self.stop_requested = True
            self.monitor.say(f"workers die before they begin a run; see {job.paths.stdout}")

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


def was_at(job: "submitit.Job[None]", run: RunFolder) -> bool:
    """Tell whether a worker that ended was in the middle of a run."""
    return str(run.progress().get("job")) == job.job_id and run.state() == "interrupted"


def least_used(gpus: list[int], in_use: list[int | None]) -> int | None:
    """Return the GPU that the fewest workers use, or None without GPUs."""
    return min(gpus, key=in_use.count) if gpus else None


def visible_gpus() -> list[int]:
    """Return the GPUs that this process may use, by number."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [int(part) for part in given.split(",") if part.strip().isdigit()]
    import torch

    return list(range(torch.cuda.device_count()))


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
    gpus = visible_gpus()
    workers = parallel or len(gpus) or max(1, available_cores() // threads)
    return Launcher(sweep, workers, gpus)()


def available_cores() -> int:
    """Return the cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
