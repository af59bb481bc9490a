"""The live table of a sweep's runs: state, step, score, time left."""

import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from suite.runs.folder import RunFolder, State

COLOURS = {"finished": "green", "failed": "red", "running": "cyan", "interrupted": "yellow"}
ORDER: tuple[State, ...] = ("running", "failed", "interrupted", "queued", "finished")
LINES_BESIDE_TABLE = 8


class Monitor:
    """Show how runs stand: a live table on a terminal, a line per change elsewhere."""

    def __init__(self, name: str, runs: Sequence[RunFolder]) -> None:
        self.name = name
        self.runs = runs
        self.console = Console()
        self.live = Live(console=self.console, auto_refresh=False, transient=False)
        self.states: dict[str, State] = {run.path.name: run.state() for run in runs}
        self.message = ""
        self.started = time.monotonic()

    def __enter__(self) -> "Monitor":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.live.stop()

    def say(self, message: str) -> None:
        """Show a sentence from now on."""
        self.message = message
        if not self.console.is_terminal:
            self.print_line(message)

    def print_line(self, text: str) -> None:
        """Print as it is: errors and paths may hold brackets."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def update(self, jobs: dict[str, str] | None = None) -> None:
        """Read the run folders and show what changed; `jobs` tells of a scheduler's, by run."""
        for run in self.runs:
            before = self.states[run.path.name]
            # Nothing leaves "finished": a long sweep need not read those again.
            state = before if before == "finished" else run.state()
            self.states[run.path.name] = state
            if state != before and not self.console.is_terminal:
                self.print_line(f"{self.counts()}  {line(run, state)}")
        if self.console.is_terminal:
            room = max(3, self.console.height - LINES_BESIDE_TABLE)
            table = runs_table(self.runs, self.states, room, jobs)
            self.live.update(Group(table, Text(f"{self.counts()}  {self.message}")), refresh=True)

    def counts(self) -> str:
        """Summarise, as in `4/9 finished, 2 running`."""
        count = Counter(self.states.values())
        parts = [f"{count['finished']}/{len(self.runs)} finished"]
        parts += [f"{count[state]} {state}" for state in ORDER[:-1] if count[state]]
        elapsed = timedelta(seconds=int(time.monotonic() - self.started))
        return f"[{elapsed}] {self.name}: {', '.join(parts)}"


def runs_table(
    runs: Sequence[RunFolder],
    states: dict[str, State],
    room: int,
    jobs: dict[str, str] | None = None,
) -> Table:
    """Return a table of at most `room` runs, those that matter most first, and of their jobs."""
    jobs = jobs or {}
    table = Table(box=None, pad_edge=False)
    for heading in ("run", "state", "step", "score", "time left"):
        table.add_column(heading, justify="left" if heading in ("run", "state") else "right")
    if jobs:
        table.add_column("job")
    shown = sorted(runs, key=lambda run: ORDER.index(states[run.path.name]))
    for run in shown[:room]:
        state = states[run.path.name]
        step, score, left = standing(run, state)
        name, job = run.path.name, [jobs.get(run.path.name, "")] if jobs else []
        table.add_row(name, Text(state, COLOURS.get(state, "")), step, score, left, *job)
    if len(shown) > room:
        table.add_row(f"… and {len(shown) - room} more", "", "", "", "")
    return table


def standing(run: RunFolder, state: State) -> tuple[str, str, str]:
    """Return step, score and time left, as text; empty where unknown."""
    progress = run.progress()
    step, steps, rate = progress.get("step"), progress.get("steps"), progress.get("rate")
    score = (run.summary() or progress).get("score")
    text = "" if score is None else f"{score:.4g}"
    if state == "running" and progress.get("phase") == "preparing":
        return "preparing", text, ""
    left = ""
    if state == "running" and rate and steps:
        left = str(timedelta(seconds=int((steps - (step or 0)) / rate)))
    return ("" if step is None else f"{step}/{steps}"), text, left


def line(run: RunFolder, state: State) -> str:
    """Describe a change of state in one line."""
    _, score, _ = standing(run, state)
    error = (run.summary() or {}).get("error") if state == "failed" else None
    parts = [run.path.name, state, f"score {score}" if score else "", error or ""]
    return "  ".join(part for part in parts if part)
