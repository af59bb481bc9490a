"""How a sweep stands, in words and tables, for people who look from outside."""

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from suite.config.fields import ConfigError
from suite.runs.folder import RunFolder, State
from suite.sweeps.monitor import ORDER, runs_table
from suite.sweeps.slurm_jobs import Jobs
from suite.sweeps.spec import Sweep

MOST_ROWS = 40
PLAN = {
    "queued": "run",
    "interrupted": "continue from its checkpoint",
    "running": "leave to the process that runs it",
    "failed": "leave (again with --retry)",
    "finished": "skip",
}


def print_plan(sweep: Sweep, retry: bool) -> None:
    """Print every point, its state, and what launching would do with it."""
    console = Console()
    table = Table(box=None)
    for heading in ("run", "state", "what would happen"):
        table.add_column(heading, overflow="fold")
    counts: Counter[str] = Counter()
    for config in sweep.points.values():
        state = RunFolder.of(config).state()
        action = "run again" if state == "failed" and retry else PLAN[state]
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
    jobs = jobs_of(folder, console)
    console.print(runs_table(runs, states, MOST_ROWS, jobs))
    count = Counter(states.values())
    console.print(", ".join(f"{count[state]} {state}" for state in ORDER if count[state]))
    print_errors(console, [run for run in runs if states[run.path.name] == "failed"])
    waiting = {name: state for name, state in states.items() if name not in jobs}
    for sentence in endings(folder, waiting)[:MOST_ROWS]:
        console.print(sentence, style="yellow", markup=False, highlight=False, soft_wrap=True)
    return 0


def jobs_of(folder: Path, console: Console) -> dict[str, str]:
    """Return job and state of the runs that SLURM still knows of; says so where it is not asked."""
    jobs = Jobs(folder)
    try:
        return jobs.by_run(jobs.active())
    except ConfigError as error:  # a machine without SLURM, or the controller is down
        console.print(f"without SLURM's word: {error}", soft_wrap=True)
        return {}


def endings(folder: Path, states: dict[str, State]) -> list[str]:
    """Explain in a sentence each, where SLURM knows, why runs are not done and no job is left."""
    torn = [name for name, state in states.items() if state in ("queued", "interrupted")]
    return [
        f"{states[run]}: {run}: job {ending}; {last_line(folder, ending.split()[0])}"
        for run, ending in Jobs(folder).endings(torn).items()
    ]


def last_line(folder: Path, job: str) -> str:
    """Return what a job said last, and where."""
    path = folder / "logs" / f"{job}_0_log.out"
    try:
        lines = path.read_text(errors="replace").split("\n")
    except OSError:
        return f"no log: its node could not write {folder.resolve()}, or has another folder there"
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if "error" in line.lower()]
    return f"{path}: {(errors or said or ['nothing'])[-1]}"


def summarise(sweep: Sweep, page: Path) -> None:
    """Print how a sweep ended, the errors of failed runs, and where the report is."""
    console = Console()
    runs = [RunFolder.of(config) for config in sweep.points.values()]
    states = [run.state() for run in runs]
    count = Counter(states)
    console.print(f"{sweep.name}: " + ", ".join(f"{count[s]} {s}" for s in ORDER if count[s]))
    failed = [run for run, state in zip(runs, states, strict=True) if state == "failed"]
    print_errors(console, failed)
    if failed:
        console.print("`--retry` runs failed points again.")
    console.print(f"report: {page}", soft_wrap=True)


def print_errors(console: Console, failed: list[RunFolder]) -> None:
    """Name failed runs with the reason."""
    for run in failed[:MOST_ROWS]:
        error = str((run.summary() or {}).get("error"))
        text = f"failed: {run.path.name}: {error}"
        console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
