"""The state of a sweep as tables and sentences on the terminal."""

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from suite.config.fields import ConfigError
from suite.runs.folder import RunFolder, State
from suite.sweeps.monitor import STATE_ORDER, runs_table
from suite.sweeps.slurm_jobs import Jobs
from suite.sweeps.spec import Sweep

MAX_ROWS = 40
ACTIONS = {
    "queued": "run",
    "interrupted": "continue from its checkpoint",
    "running": "leave to the process that runs it",
    "failed": "leave (again with --retry)",
    "finished": "skip",
}


def print_plan(sweep: Sweep, retry: bool) -> None:
    """Print every run, its state, and what launching would do with it."""
    console = Console()
    table = Table(box=None)
    for heading in ("run", "state", "what would happen"):
        table.add_column(heading, overflow="fold")
    counts: Counter[str] = Counter()
    for config in sweep.points.values():
        state = RunFolder.of(config).state()
        action = "run again" if state == "failed" and retry else ACTIONS[state]
        counts[action] += 1
        table.add_row(config.run_name, state, action)
    console.print(table)
    summary = ", ".join(f"{count} {action}" for action, count in counts.items())
    console.print(
        f"{len(sweep.points)} runs in {sweep.folder}: {summary}. Nothing was started.",
        soft_wrap=True,
    )


def print_status(folder: Path) -> int:
    """Print the runs below a sweep's folder; raises ConfigError where there are none."""
    runs = [RunFolder(path) for path in sorted((folder / "runs").glob("*")) if path.is_dir()]
    if not runs:
        raise ConfigError(f"{folder}: no runs there; `suite sweep` starts a sweep")
    states: dict[str, State] = {run.path.name: run.state() for run in runs}
    console = Console()
    jobs = active_jobs(folder, console)
    console.print(runs_table(runs, states, MAX_ROWS, jobs))
    console.print(count_states(list(states.values())))
    print_errors(console, [run for run in runs if states[run.path.name] == "failed"])
    without_job = {name: state for name, state in states.items() if name not in jobs}
    for sentence in explain_unfinished(folder, without_job)[:MAX_ROWS]:
        console.print(sentence, style="yellow", markup=False, highlight=False, soft_wrap=True)
    return 0


def count_states(states: list[State]) -> str:
    """Return the number of runs by state, as in `2 failed, 4 finished`."""
    count = Counter(states)
    return ", ".join(f"{count[state]} {state}" for state in STATE_ORDER if count[state])


def active_jobs(folder: Path, console: Console) -> dict[str, str]:
    """Return id and state of the active job of each run; prints why where SLURM does not answer."""
    jobs = Jobs(folder)
    try:
        return jobs.by_run(jobs.active())
    except ConfigError as error:  # a machine without SLURM, or the controller is down
        console.print(f"without SLURM's word: {error}", soft_wrap=True)
        return {}


def explain_unfinished(folder: Path, states: dict[str, State]) -> list[str]:
    """Return a sentence for each unfinished run whose last job SLURM remembers, on how it ended."""
    unfinished = [name for name, state in states.items() if state in ("queued", "interrupted")]
    return [
        f"{states[run]}: {run}: job {ending}; {last_message(folder, ending.split()[0])}"
        for run, ending in Jobs(folder).endings(unfinished).items()
    ]


def last_message(folder: Path, job: str) -> str:
    """Return a job's log file and the last error in it, else its last line."""
    path = folder / "logs" / f"{job}_0_log.out"
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return f"no log: its node could not write {folder.resolve()}, or has another folder there"
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return f"{path}: {(errors or lines or ['nothing'])[-1]}"


def summarise(sweep: Sweep, page: Path) -> None:
    """Print how a sweep ended, the errors of failed runs, and where the report is."""
    console = Console()
    runs = [RunFolder.of(config) for config in sweep.points.values()]
    states = [run.state() for run in runs]
    console.print(f"{sweep.name}: {count_states(states)}")
    failed = [run for run, state in zip(runs, states, strict=True) if state == "failed"]
    print_errors(console, failed)
    if failed:
        console.print("`--retry` runs failed points again.")
    console.print(f"report: {page}", soft_wrap=True)


def print_errors(console: Console, failed: list[RunFolder]) -> None:
    """Print the names and errors of failed runs."""
    for run in failed[:MAX_ROWS]:
        error = str((run.summary() or {}).get("error"))
        text = f"failed: {run.path.name}: {error}"
        console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
