"""The live table of a sweep's runs: state, step, score, time left."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from suite.runs.folder import RunFolder
from suite.sweeps.states import STATE_ORDER, ShownState, error_of, state_of
from suite.system.plain_text import plain

COLOURS = {"finished": "green", "failed": "red", "running": "cyan", "interrupted": "yellow"}
COLOURS["unreadable"] = "red"
LINES_BESIDE_TABLE = 8


class Monitor:
    """Show the states of runs: a live table on a terminal, else a line for each change."""

    def __init__(self, name: str, runs: Sequence[RunFolder]) -> None:
        self.name = name
        self.runs = runs
        self.console = Console()
        self.live = Live(console=self.console, auto_refresh=False, transient=False)
        self.states: dict[str, ShownState] = {run.path.name: state_of(run) for run in runs}
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
        with suppress(OSError, UnicodeError):
            self.live.stop()

    def show_message(self, message: str) -> None:
        """Show a sentence below the table from now on."""
        self.message = message
        if not self.console.is_terminal:
            self.print_line(message)

    def print_line(self, text: str) -> None:
        """Print a line without interpreting brackets, which errors and paths may hold."""
        with suppress(OSError, UnicodeError):  # the terminal may be gone; the runs go on
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def update(self, jobs: dict[str, str] | None = None) -> None:
        """Read the run folders and show what changed; `jobs` has the SLURM job by run name."""
        for run in self.runs:
            before = self.states[run.path.name]
            # A finished run stays finished: a long sweep need not read it again.
            state = before if before == "finished" else state_of(run)
            self.states[run.path.name] = state
            if state != before and not self.console.is_terminal:
                self.print_line(f"{self.summary()}  {change_line(run, state)}")
        if self.console.is_terminal:
            max_rows = max(3, self.console.height - LINES_BESIDE_TABLE)
            table = runs_table(self.runs, self.states, max_rows, jobs)
            with suppress(OSError, UnicodeError):
                shown = Group(table, Text(f"{self.summary()}  {self.message}"))
                self.live.update(shown, refresh=True)

    def summary(self) -> str:
        """Return elapsed time and number of runs by state, as in `4/9 finished, 2 running`."""
        count = Counter(self.states.values())
        numbers = [f"{count['finished']}/{len(self.runs)} finished"]
        numbers += [f"{count[state]} {state}" for state in STATE_ORDER[:-1] if count[state]]
        elapsed = timedelta(seconds=int(time.monotonic() - self.started))
        return f"[{elapsed}] {self.name}: {', '.join(numbers)}"


def runs_table(
    runs: Sequence[RunFolder],
    states: dict[str, ShownState],
    max_rows: int,
    jobs: dict[str, str] | None = None,
) -> Table:
    """Return a table of at most `max_rows` runs, sorted by STATE_ORDER, and of their jobs."""
    jobs = jobs or {}
    table = Table(box=None, pad_edge=False)
    for heading in ("run", "state", "step", "score", "time left"):
        table.add_column(heading, justify="left" if heading in ("run", "state") else "right")
    if jobs:
        table.add_column("job")
    ordered = sorted(runs, key=lambda run: STATE_ORDER.index(states[run.path.name]))
    for run in ordered[:max_rows]:
        name = run.path.name
        state = Text(states[name], COLOURS.get(states[name], ""))
        job = [Text(plain(jobs.get(name, "")))] if jobs else []
        table.add_row(Text(plain(name)), state, *progress_cells(run, states[name]), *job)
    if len(ordered) > max_rows:
        table.add_row(f"… and {len(ordered) - max_rows} more", "", "", "", "")
    return table


def progress_cells(run: RunFolder, state: ShownState) -> tuple[str, str, str]:
    """Return step, score and time left, as text; empty where unknown or not readable."""
    try:
        step, score, time_left = read_progress(run, state)
        return plain(step, 40), plain(score, 40), time_left
    except Exception:  # whatever one folder holds must not hide the other runs
        return "", "", ""


def read_progress(run: RunFolder, state: ShownState) -> tuple[str, str, str]:
    """Return step, score and time left, as text; raises anything for strange files."""
    progress = run.progress()
    step, steps, rate = progress.get("step"), progress.get("steps"), progress.get("rate")
    score = (run.summary() or progress).get("score")
    score_text = "" if score is None else f"{score:.4g}"
    if state == "running" and progress.get("phase") == "preparing":
        return "preparing", score_text, ""
    time_left = ""
    if state == "running" and rate and steps:
        time_left = str(timedelta(seconds=int((steps - (step or 0)) / rate)))
    return ("" if step is None else f"{step}/{steps}"), score_text, time_left


def change_line(run: RunFolder, state: ShownState) -> str:
    """Describe a run's new state in one line."""
    _, score, _ = progress_cells(run, state)
    texts = [plain(run.path.name), state, f"score {score}" if score else "", error_of(run)]
    return "  ".join(text for text in texts if text)
