"""What a report takes from a run's folder: checked, cut to size, and never an end of the page."""

import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

from suite.report.text import one_line, shortened
from suite.runs.folder import RunFolder, State
from suite.system.files import read_json, read_json_lines
from suite.system.json_text import with_numbers

RecordState = State | Literal["unreadable"]
REJECT_SHARE = "train/reference_reject_share"
LARGEST_FILE = 2**24  # bytes of environment.json, examples.json and summary.json
LARGEST_METRICS = 2**29
LARGEST_VIDEO = 2**26
LOG_BYTES = 2**16  # of the log's end
MOST_EXAMPLES, LONGEST_EXAMPLE = 50, 2000
MOST_PACKAGES = 100
ERRORS = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, MemoryError)


class Found(NamedTuple):
    """What a run's folder holds."""

    state: RecordState
    evaluations: list[dict[str, float]]
    reject_share: float | None
    commit: str
    error: str
    problem: str
    """Why the numbers are left out, or nothing."""
    notes: list[str]
    """What else is wrong; the numbers count."""


def read_run(folder: RunFolder) -> Found:
    """Read a run; what cannot be read has the state `unreadable`, and the reason."""
    try:
        return read_checked(folder)
    except ERRORS as error:
        text = f"{type(error).__name__}: {one_line(str(error))}"
        return Found("unreadable", [], None, "", "", f"its folder cannot be read ({text})", [])


def read_checked(folder: RunFolder) -> Found:
    """Read a run; raises OSError, and what files of wrong types raise."""
    list(folder.path.glob("*"))  # a folder without permission hides its files
    summary, wrong = small_json(folder.path / "summary.json")
    if wrong:
        return Found("unreadable", [], None, "", "", wrong, [])
    state = folder.state()
    facts, note = small_json(folder.path / "environment.json")
    notes = [note] if note else []
    if facts is not None and not is_environment(facts):
        notes.append("environment.json has values of other kinds than this suite writes")
    size = folder.metrics_path.stat().st_size if folder.metrics_path.exists() else 0
    if size > LARGEST_METRICS:
        return Found(state, [], None, "", "", f"metrics.jsonl has {size / 1e6:.0f} MB", notes)
    rows, broken = read_json_lines(folder.metrics_path)
    rows = [with_numbers(row) for row in rows]
    problem = wrong_row(rows)
    evaluations = [] if problem else [row for row in rows if "eval/score" in row]
    if state == "finished" and not problem:
        if broken:
            problem = f"metrics.jsonl: line {len(rows) + 1} is broken"
        else:
            problem, note = compared_with_summary(evaluations, with_numbers(summary or {}))
            notes += [note] if note else []
    shares = [row[REJECT_SHARE] for row in rows if REJECT_SHARE in row and not problem]
    return Found(
        state=state,
        evaluations=evaluations,
        reject_share=shares[0] if shares else None,
        commit=one_line(str((facts or {}).get("git") or "")),
        error=one_line(str((summary or {}).get("error") or "")),
        problem=problem,
        notes=notes,
    )


def small_json(path: Path) -> tuple[dict[str, Any] | None, str]:
    """Return a file's JSON object, or None and what is wrong with a file that is there."""
    if not path.exists():
        return None, ""
    if (size := path.stat().st_size) > LARGEST_FILE:
        return None, f"{path.name} has {size / 1e6:.0f} MB"
    values = read_json(path)
    return values, "" if values is not None else f"{path.name} holds no JSON object"


def is_environment(facts: dict[str, Any]) -> bool:
    """Return whether environment.json has the kinds of values that runs write."""
    packages = facts.get("packages")
    return (
        isinstance(facts.get("git"), str | None)
        and isinstance(facts.get("python"), str)
        and isinstance(packages, dict)
        and all(isinstance(version, str | None) for version in packages.values())
    )


def wrong_row(rows: list[dict[str, Any]]) -> str:
    """Return what is wrong with the first row of metrics that is no row, or nothing."""
    for number, row in enumerate(rows, 1):
        step = row.get("step")
        if type(step) is not int:
            return f"metrics.jsonl, line {number}: the step is {shortened(repr(step), 40)}"
        for name, value in row.items():
            if type(value) not in (int, float):
                found = shortened(f"{name} is {value!r}", 80)
                return f"metrics.jsonl, line {number}: {one_line(found)}, which is no number"
    return ""


def compared_with_summary(
    evaluations: list[dict[str, float]], summary: dict[str, Any]
) -> tuple[str, str]:
    """Return what tells the metrics from summary.json: a problem of the run, or a note.

    Scores that differ at the first and at the last evaluation were written anew on purpose.
    """
    first, last = (evaluations[0], evaluations[-1]) if evaluations else ({}, {})
    score, step = last.get("eval/score"), last.get("step", 0)
    if same(summary.get("step", step), step) and same(summary.get("score", score), score):
        return "", ""
    text = (
        f"metrics.jsonl ends at step {step} with score {shown(score)}, and summary.json says step"
        f" {shown(summary.get('step'))} and score {shown(summary.get('score'))}"
    )
    start = first.get("eval/score")
    rewritten = same(summary.get("step", step), step) and len(evaluations) > 1
    if rewritten and not same(summary.get("start_score", start), start):
        return "", f"its scores changed after its end: {text}; those of metrics.jsonl count"
    return text, ""


def same(first: Any, second: Any) -> bool:
    """Return whether two values are equal; NaN equals NaN."""
    if isinstance(first, float) and isinstance(second, float) and math.isnan(first):
        return math.isnan(second)
    return bool(first == second)


def shown(value: Any) -> str:
    """Write a number with the digits of tables, or what is in its place."""
    return f"{value:.4g}" if type(value) in (int, float) else shortened(repr(value), 40)


def environment_of(folder: RunFolder) -> dict[str, Any] | None:
    """Return commit, Python and packages of a run as text; None where they are not known."""
    try:
        facts, _ = small_json(folder.path / "environment.json")
    except ERRORS:
        return None
    if facts is None:
        return None
    packages = facts.get("packages")
    pairs = list(packages.items())[:MOST_PACKAGES] if isinstance(packages, dict) else []
    return {
        "git": one_line(str(facts.get("git") or "")),
        "python": one_line(str(facts.get("python") or "unknown"), 40),
        "packages": {one_line(name, 60): one_line(str(version), 60) for name, version in pairs},
    }


def examples_of(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the examples as rows of equal columns, cut to size; empty where there are none."""
    try:
        content, _ = small_json(folder.path / "examples.json")
    except ERRORS:
        return []
    rows = (content or {}).get("rows")
    if not isinstance(rows, list):
        return []
    rows = [row for row in rows[:MOST_EXAMPLES] if isinstance(row, dict)]
    names = list(rows[0])[:MOST_EXAMPLES] if rows else []
    return [{name: example_value(row.get(name, "")) for name in names} for row in rows if names]


def example_value(value: Any) -> Any:
    """Return a number as it is, and anything else as text that is cut to size."""
    if isinstance(value, int | float) or value is None:
        return value
    return shortened(value if isinstance(value, str) else repr(value), LONGEST_EXAMPLE)


def log_end(folder: RunFolder, lines: int) -> str:
    """Return the last lines of a run's log, each cut to size; empty where it cannot be read."""
    try:
        with folder.log_path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LOG_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(shortened(line, 500) for line in text.splitlines()[-lines:])
