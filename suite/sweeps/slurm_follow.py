"""Follow a submitted sweep until its runs have ended."""

import time

from suite.config.fields import ConfigError
from suite.runs.folder import RunFolder
from suite.sweeps.launching import Outcome
from suite.sweeps.monitor import Monitor
from suite.sweeps.slurm_jobs import Jobs
from suite.sweeps.spec import Sweep
from suite.sweeps.status import explain_unfinished

POLL_SECONDS = 3.0  # between reads of the run folders
QUEUE_SECONDS = 10.0  # between questions to the controller
SETTLING_SECONDS = 60.0  # until a file that a node wrote is seen here, on a shared file system


def follow(sweep: Sweep, command: str) -> Outcome:
    """Show a submitted sweep until every run has ended, or no job of it waits or runs.

    Ctrl-C ends this function; the jobs continue.
    """
    runs = [RunFolder.of(config) for config in sweep.points.values()]
    monitor = Monitor(sweep.title, runs)
    with monitor:
        try:
            wait_for_runs(Jobs(sweep.folder), monitor)
        except KeyboardInterrupt:
            monitor.show_message(
                f"the jobs go on; `{command}` comes back to them, `suite status {sweep.name}` shows"
                f" and `suite cancel {sweep.name}` ends them"
            )
            return Outcome(all_finished=False, stopped=True)
        show_unfinished(monitor, sweep, command)
        for sentence in explain_unfinished(sweep.folder, monitor.states):
            monitor.print_line(sentence)
    return Outcome(set(monitor.states.values()) == {"finished"}, stopped=False)


def wait_for_runs(jobs: Jobs, monitor: Monitor) -> None:
    """Update the monitor until every run has ended, or for a while no job waits or runs."""
    active, asked, idle_since = jobs.active(), time.monotonic(), None
    while True:
        if time.monotonic() - asked > QUEUE_SECONDS:
            try:
                active = jobs.active()
                monitor.message = ""
            except ConfigError as error:  # the controller may restart
                monitor.show_message(f"{error}; asking again")
            asked = time.monotonic()
        monitor.update(jobs.by_run(active))
        states = set(monitor.states.values())
        if states <= {"finished", "failed"}:
            return
        if active or "running" in states:
            idle_since = None
        else:
            idle_since = idle_since or time.monotonic()
            if time.monotonic() - idle_since > SETTLING_SECONDS:
                return
        time.sleep(POLL_SECONDS)


def show_unfinished(monitor: Monitor, sweep: Sweep, command: str) -> None:
    """Show how many runs have not ended although no job of theirs is active, and what to do."""
    states = list(monitor.states.values())
    if queued := states.count("queued"):
        monitor.show_message(
            f"{queued} runs never began: their jobs were cancelled or died early; check that the"
            f" nodes can write {sweep.folder.resolve()}; `{command}` submits them again"
        )
    if interrupted := states.count("interrupted"):
        monitor.show_message(
            f"{interrupted} runs were cut short and not requeued; `{command}` continues them"
        )
