"""Run a sweep as processes on this machine, through submitit."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NamedTuple

import submitit

from suite.config.fields import ConfigError
from suite.runs.folder import RunFolder
from suite.sweeps.choices import stages
from suite.sweeps.gpus import least_used, visible_gpus
from suite.sweeps.launcher_lock import Launcher as LaunchingProcess
from suite.sweeps.launcher_lock import sole_launcher, wait_for_workers
from suite.sweeps.launching import (
    Outcome,
    outcome_of,
    prepare_runs,
    set_worker_environment,
)
from suite.sweeps.monitor import Monitor
from suite.sweeps.spec import Sweep
from suite.sweeps.states import ShownState
from suite.sweeps.worker import run_worker
from suite.system.faults import disk_fault

POLL_SECONDS = 1.0
MAX_FAILED_STARTS = 3  # workers in a row that may die before they begin a run
MINUTES_OF_A_MONTH = 60 * 24 * 30  # submitit ends local jobs after two minutes unless told


class Worker(NamedTuple):
    """The GPU of a worker, its start time, and how the runs stood then."""

    gpu: str | None
    started: float  # seconds since the epoch
    states: dict[str, ShownState]


class Launcher:
    """Keep workers running until every run of a sweep is finished or failed."""

    def __init__(self, sweep: Sweep, parallel: int, gpus: list[str]) -> None:
        self.runs = [RunFolder.of(config) for config in sweep.points.values()]
        self.parallel = parallel
        self.gpus = gpus
        self.executor = submitit.LocalExecutor(folder=sweep.folder / "logs")
        self.executor.update_parameters(timeout_min=MINUTES_OF_A_MONTH, stderr_to_stdout=True)
        self.workers: dict[submitit.Job[None], Worker] = {}
        self.failed_starts = 0
        self.stop_requested = False
        self.monitor = Monitor(sweep.title, self.runs)

    def __call__(self) -> Outcome:
        """Run all pending runs, or until a stop signal."""
        with self.stop_on_signal(), self.monitor:
            while self.poll():
                time.sleep(POLL_SECONDS)
        finished = set(self.monitor.states.values()) == {"finished"}
        return Outcome(finished, self.stop_requested and self.failed_starts < MAX_FAILED_STARTS)

    def poll(self) -> bool:
        """Replace workers that ended; return whether any run or worker is active."""
        for job in [job for job in self.workers if job.done()]:
            self.handle_exit(job, self.workers.pop(job))
        self.monitor.update()
        states = list(self.monitor.states.values())
        pending = sum(state in ("queued", "interrupted") for state in states)
        if not self.stop_requested:
            for _ in range(min(pending, self.parallel - len(self.workers))):
                if not self.stop_requested:  # Ctrl-C may come between two starts
                    self.start_worker()
            return bool(self.workers) or "running" in states
        self.stop_workers()
        return bool(self.workers)

    def stop_workers(self) -> None:
        """Send SIGTERM to every worker; called again and again, since a new worker misses it."""
        for job in self.workers:
            with suppress(ProcessLookupError):
                os.kill(int(job.job_id), signal.SIGTERM)  # a local job's id is its process id

    def start_worker(self) -> None:
        """Start a process that works through the runs, on the least used GPU if there is one."""
        gpu = least_used(self.gpus, [worker.gpu for worker in self.workers.values()])
        # A terminal sends Ctrl-C to the whole process group. Workers inherit the blocked signal;
        # the launcher receives it afterwards, and stops them.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            paths = [run.path for run in self.runs]
            job = self.executor.submit(run_worker, paths, LaunchingProcess.current(), gpu)
            self.workers[job] = Worker(gpu, time.time(), dict(self.monitor.states))
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])

    def handle_exit(self, job: "submitit.Job[None]", worker: Worker) -> None:
        """Fail the run of a worker that was killed, for example for lack of memory."""
        if self.stop_requested:
            return
        # A job without a result was killed; asking submitit would wait for the result to appear.
        if job.paths.result_pickle.exists() and job.exception() is None:
            self.monitor.update()
            # A disk that is full or a folder that is damaged: another worker would end alike.
            changed = self.monitor.states != worker.states
            self.count_start(job, changed, "workers end and change no run")
            return
        interrupted = [run for run in self.runs if was_training(job, worker, run)]
        fault = disk_fault(job.exception()) if job.paths.result_pickle.exists() else None
        if fault is not None:  # no fault of a run: it may go on, though not for ever
            interrupted = []
        for run in interrupted:
            run.finish("failed", error=f"its process died; see {job.paths.stdout}")
        message = "workers die before they begin a run"
        if fault is not None:
            message = f"{fault}: no run can go on; the same command continues them"
        self.count_start(job, bool(interrupted), message)

    def count_start(self, job: "submitit.Job[None]", is_good: bool, message: str) -> None:
        """Stop after several workers in a row that did nothing."""
        self.failed_starts = 0 if is_good else self.failed_starts + 1
        if self.failed_starts == MAX_FAILED_STARTS:
            self.stop_requested = True
            self.monitor.show_message(f"{message}; see {job.paths.stdout}")

    @contextmanager
    def stop_on_signal(self) -> Iterator[None]:
        """Let Ctrl-C, SIGTERM or a lost terminal stop all workers, each with a checkpoint."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.stop_requested = True
            message = "stopping: every run saves a checkpoint; the same command goes on"
            self.monitor.show_message(message)

        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            numbers.append(signal.SIGHUP)
        previous = {number: signal.signal(number, stop) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def was_training(job: "submitit.Job[None]", worker: Worker, run: RunFolder) -> bool:
    """Return whether a worker ended while it trained a run.

    The worker's start time counts too, since process ids repeat.
    """
    progress = run.progress()
    own = str(progress.get("job")) == job.job_id and progress["updated"] >= worker.started
    return own and run.state() == "interrupted"


def launch(sweep: Sweep, parallel: int | None, retry: bool) -> Outcome:
    """Run the pending runs of a sweep on this machine, `parallel` at a time.

    Raises ConfigError where another launcher here works on the sweep, or nothing can be written.
    """
    with sole_launcher(sweep.folder):
        try:
            wait_for_workers(sweep.folder, print)
            return outcome_of(launch_stage(stage, parallel, retry) for stage in stages(sweep))
        except OSError as error:  # workers that have begun notice, save and end
            raise ConfigError(f"{sweep.folder}: {error}; the same command goes on") from None


def launch_stage(stage: Sweep, parallel: int | None, retry: bool) -> Outcome:
    """Run the pending runs of a stage of a sweep."""
    gpus = visible_gpus(stage)
    threads = set_worker_environment(stage)
    prepare_runs(stage, retry)
    workers = parallel or len(gpus) or max(1, available_cores() // threads)
    return Launcher(stage, workers, gpus)()


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
