"""The states of runs as a sweep shows them: a damaged folder concerns no other run."""

from typing import Literal

from suite.runs.folder import RunFolder, State
from suite.system.plain_text import plain

ShownState = State | Literal["unreadable"]
STATE_ORDER: tuple[ShownState, ...] = (
    *("running", "failed", "unreadable", "interrupted", "queued", "finished"),
)


def state_of(run: RunFolder) -> ShownState:
    """Return a run's state, or `unreadable` where its folder cannot be read."""
    try:
        return run.state()
    except Exception:  # whatever lies in one folder must not hide the others
        return "unreadable"


def error_of(run: RunFolder) -> str:
    """Return why a run failed or cannot be read, as one line."""
    try:
        if run.state() == "failed":
            return plain((run.summary() or {}).get("error"))
    except Exception as error:
        return plain(f"{type(error).__name__}: {error}")
    return ""
