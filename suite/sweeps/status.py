"""The state of a sweep as tables and sentences on the terminal."""

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from suite.config.fields import ConfigError
from suite.runs.folder import RunFolder
from suite.sweeps.choices import (
    ENDED,
    choices_of,
    known_stages,
    tuning_runs,
    waiting_text,
)
from suite.sweeps.monitor import runs_table
from suite.sweeps.slurm_jobs import Jobs
from suite.sweeps.spec import Sweep
from suite.sweeps.states import STATE_ORDER, ShownState, error_of, state_of
from suite.system.plain_text import plain

MAX_ROWS = 40
LOG_BYTES = 100_000  # of a log, from its end
ACTIONS = {
    "queued": "run",
    "interrupted": "continue from its checkpoint",
    "running": "leave to the process that runs it",
    "unreadable": "leave (its folder cannot be read)",
    "failed": "leave (again with --retry)",
    "finished": "skip",
}


def print_plan(sweep: Sweep, retry: bool) -> None:
    """Print every run, its state, and what launching would do with it."""
    console = Console()
    table = Table(box=None)
    for heading in (*(["stage"] if sweep.tuned else []), "run", "state", "what would happen"):
        table.add_column(heading, overflow="fold")
    counts: Counter[str] = Counter()
    for stage in known_stages(sweep):
        for config in stage.points.values():
            state = state_of(RunFolder.of(config))
            action = "run again" if state == "failed" and retry else ACTIONS[state]
            counts[action] += 1
            cells = [stage.stage] if stage.stage else []
            table.add_row(*cells, Text(plain(config.run_name)), state, action)
    console.print(table)
    summary = ", ".join(f"{count} {action}" for action, count in counts.items())
    text = f"{counts.total()} runs in {sweep.folder}: {summary}. Nothing was started."
    console.print(text, markup=False, soft_wrap=True)
    choices = choices_of(sweep)
    if waiting := waiting_text(choices):
        runs = sum(len(choice.variant.candidates[0].reported) for choice in choices)
        text = f"{runs} reported runs are {waiting}."
        console.print(text, markup=False, soft_wrap=True)


def print_status(folder: Path) -> int:
    """Print the runs below a sweep's folder; raises ConfigError where there are none."""
    runs = [RunFolder(path) for path in sorted((folder / "runs").glob("*")) if path.is_dir()]
    if not runs:
        raise ConfigError(f"{folder}: no runs there; `suite sweep` starts a sweep")
    states = {run.path.name: state_of(run) for run in runs}
    console = Console()
    jobs = active_jobs(folder, console)
    console.print(runs_table(runs, states, MAX_ROWS, jobs))
    for line in count_stages(folder, states):
        console.print(line)
    print_errors(console, runs, states)
    without_job = {name: state for name, state in states.items() if name not in jobs}
    for sentence in explain_unfinished(folder, without_job)[:MAX_ROWS]:
        console.print(sentence, style="yellow", markup=False, highlight=False, soft_wrap=True)
    return 0


def count_states(states: list[ShownState]) -> str:
    """Return the number of runs by state, as in `2 failed, 4 finished`."""
    count = Counter(states)
    return ", ".join(f"{count[state]} {state}" for state in STATE_ORDER if count[state])


def count_stages(folder: Path, states: dict[str, ShownState]) -> list[str]:
    """Return the number of runs by state, of tuning and of reported runs where both are there."""
    tuning = tuning_runs(folder)
    if not tuning:
        return [count_states(list(states.values()))]
    # A run that was not begun has a folder only once its sweep was launched.
    parts: list[list[ShownState]] = [
        [states.get(run, "queued") for run in sorted(tuning)],
        [state for run, state in states.items() if run not in tuning],
    ]
    reported = count_states(parts[1])
    if not set(parts[0]) <= set(ENDED):
        reported = f"{reported} (waiting for tuning)".lstrip()
    return [f"tuning: {count_states(parts[0])}", f"reported: {reported or 'not begun'}"]


def active_jobs(folder: Path, console: Console) -> dict[str, str]:
    """Return id and state of the active job of each run; prints why where SLURM does not answer."""
    jobs = Jobs(folder)
    try:
        return jobs.by_run(jobs.active())
    except ConfigError as error:  # a machine without SLURM, or the controller is down
        console.print(f"without SLURM's word: {error}", markup=False, soft_wrap=True)
        return {}


def explain_unfinished(folder: Path, states: dict[str, ShownState]) -> list[str]:
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
        text = end_of(path)
    except OSError:
        return f"no log: its node could not write {folder.absolute()}, or has another folder there"
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return f"{path}: {plain((errors or lines or ['nothing'])[-1])}"


def end_of(path: Path) -> str:
    """Return the end of a text file, which may be large; raises OSError."""
    if not path.is_file():
        raise FileNotFoundError(path)  # a pipe would never answer
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_BYTES))
        return file.read(LOG_BYTES).decode("utf-8", "replace")


def summarise(sweep: Sweep, page: Path) -> None:
    """Print how a sweep ended, the errors of failed runs, and where the report is."""
    console = Console()
    any_failed = False
    for stage in known_stages(sweep):
        runs = [RunFolder.of(config) for config in stage.points.values()]
        states = {run.path.name: state_of(run) for run in runs}
        if runs:
            text = f"{stage.title}: {count_states(list(states.values()))}"
            console.print(text, markup=False, soft_wrap=True)
        print_errors(console, runs, states)
        any_failed = any_failed or "failed" in states.values()
    if waiting := waiting_text(choices_of(sweep)):
        console.print(waiting, markup=False, soft_wrap=True)
    if any_failed:
        console.print("`--retry` runs failed points again.")
    console.print(f"report: {page}", markup=False, soft_wrap=True)


def print_errors(console: Console, runs: list[RunFolder], states: dict[str, ShownState]) -> None:
    """Print the names and errors of runs that failed or cannot be read."""
    bad = [run for run in runs if states[run.path.name] in ("failed", "unreadable")]
    for run in bad[:MAX_ROWS]:
        text = f"{states[run.path.name]}: {plain(run.path.name)}: {error_of(run)}"
        console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
