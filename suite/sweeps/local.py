"""Submit a sweep's runs as processes on this machine, through submitit."""

import os
import signal
import sys
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import submitit

from suite.config.fields import ConfigError
from suite.runs.folder import RunFolder
from suite.sweeps.monitor import Monitor
from suite.sweeps.spec import Sweep
from suite.sweeps.worker import run_worker

POLL_SECONDS = 1.0
MAX_FAILED_STARTS = 3  # workers that may die in a row without having begun a run
A_MONTH = 60 * 24 * 30  # minutes; submitit's local jobs end after two minutes unless told


class Outcome(NamedTuple):
    """How launching ended."""

    all_finished: bool
    stopped: bool  # by the user


class Worker(NamedTuple):
    """Where and since when a worker runs."""

    gpu: int | None
    started: float


class Launcher:
    """Keep workers running until every run of a sweep is finished or failed."""

    def __init__(self, sweep: Sweep, parallel: int, gpus: list[int]) -> None:
        self.runs = [RunFolder.of(config) for config in sweep.points.values()]
        self.parallel = parallel
        self.gpus = gpus
        self.executor = submitit.LocalExecutor(folder=sweep.folder / "logs")
        self.executor.update_parameters(timeout_min=A_MONTH, stderr_to_stdout=True)
        self.jobs: dict[submitit.Job[None], Worker] = {}
        self.failed_starts = 0
        self.stop_requested = False
        self.monitor = Monitor(sweep.name, self.runs)

    def __call__(self) -> Outcome:
        """Run everything that is left, or until told to stop."""
        with self.stopping_on_ctrl_c(), self.monitor:
            while self.poll():
                time.sleep(POLL_SECONDS)
        finished = set(self.monitor.states.values()) == {"finished"}
        return Outcome(finished, self.stop_requested and self.failed_starts < MAX_FAILED_STARTS)

    def poll(self) -> bool:
        """Replace dead workers; return whether anything is still going on."""
        for job in [job for job in self.jobs if job.done()]:
            self.note_end(job, self.jobs.pop(job))
        self.monitor.update()
        states = list(self.monitor.states.values())
        waiting = sum(state in ("queued", "interrupted") for state in states)
        if not self.stop_requested:
            for _ in range(min(waiting, self.parallel - len(self.jobs))):
                if not self.stop_requested:  # Ctrl-C may come in between
                    self.start_worker()
            return bool(self.jobs) or "running" in states
        self.pass_on_stop()
        return bool(self.jobs)

    def pass_on_stop(self) -> None:
        """Ask every worker to stop; repeated, for one that is starting does not hear it yet."""
        for job in self.jobs:
            with suppress(ProcessLookupError):
                os.kill(int(job.job_id), signal.SIGTERM)  # a local job's id is its process id

    def start_worker(self) -> None:
        """Start a process that works through the runs, on the least used GPU if there is one."""
        gpu = least_used(self.gpus, [worker.gpu for worker in self.jobs.values()])
        self.executor.update_parameters(
            gpus_per_node=0 if gpu is None else 1, visible_gpus=() if gpu is None else (gpu,)
        )
        # A worker must not see Ctrl-C, which the terminal sends to the whole group: it inherits the
        # blocked signal, and the launcher, which gets it afterwards, passes the wish on.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            job = self.executor.submit(run_worker, [run.path for run in self.runs])
            self.jobs[job] = Worker(gpu, time.time())
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])

    def note_end(self, job: "submitit.Job[None]", worker: "Worker") -> None:
        """Mark the run that a worker was at when it died of something no handler could catch."""
        if self.stop_requested:
            return
        # A job without a result was killed; asking submitit would wait for the result to appear.
        if job.paths.result_pickle.exists() and job.exception() is None:
            self.failed_starts = 0
            return
        blamed = [run for run in self.runs if was_at(job, worker, run)]
        for run in blamed:
            run.finish("failed", error=f"its process died; see {job.paths.stdout}")
        self.failed_starts = 0 if blamed else self.failed_starts + 1
        if self.failed_starts == MAX_FAILED_STARTS:
            self.stop_requested = True
            self.monitor.say(f"workers die before they begin a run; see {job.paths.stdout}")

    @contextmanager
    def stopping_on_ctrl_c(self) -> Iterator[None]:
        """Let Ctrl-C or SIGTERM stop all workers at their next step, with a checkpoint each."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.stop_requested = True
            self.monitor.say("stopping: every run saves a checkpoint; the same command goes on")

        before = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def was_at(job: "submitit.Job[None]", worker: "Worker", run: RunFolder) -> bool:
    """Tell whether a worker that ended was in the middle of a run; process ids may repeat."""
    progress = run.progress()
    own = str(progress.get("job")) == job.job_id and progress["updated"] >= worker.started
    return own and run.state() == "interrupted"


def least_used(gpus: list[int], in_use: list[int | None]) -> int | None:
    """Return the GPU that the fewest workers use, or None without GPUs."""
    return min(gpus, key=in_use.count) if gpus else None


def visible_gpus(sweep: Sweep) -> list[int]:
    """Return the GPUs, by number, that the sweep's runs may use; raises ConfigError."""
    if all(config.trainer.accelerator == "cpu" for config in sweep.points.values()):
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        import torch

        return list(range(torch.cuda.device_count()))
    parts = [part.strip() for part in given.split(",") if part.strip()]
    if not all(part.isdigit() for part in parts):
        raise ConfigError(f"CUDA_VISIBLE_DEVICES must list GPUs by number, found {given!r}")
    return [int(part) for part in parts]


def prepare(sweep: Sweep, retry: bool, taken: Container[str] = ()) -> None:
    """Make the run folders, and queue failed runs again where `retry` asks for it.

    Runs that are `taken`, by name, belong to jobs that wait already.
    """
    for config in sweep.points.values():
        run = RunFolder.of(config)
        if run.path.name in taken:
            continue
        state = run.state()
        if state in ("queued", "interrupted", "failed"):
            run.create(config)  # again, since folder and logging are not part of the signature
        if retry and state == "failed":
            (run.path / "summary.json").unlink(missing_ok=True)


def launch(sweep: Sweep, parallel: int | None, retry: bool) -> Outcome:
    """Run what is left of a sweep on this machine."""
    prepare(sweep, retry)
    threads = max(config.trainer.threads for config in sweep.points.values())
    # Libraries read this when they are imported: runs side by side must not fight for cores.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).parents[2]))
    gpus = visible_gpus(sweep)
    workers = parallel or len(gpus) or max(1, available_cores() // threads)
    return Launcher(sweep, workers, gpus)()


def available_cores() -> int:
    """Return the cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
