"""A sweep's report: scores.csv, report.md, report.html and figures."""

import base64
import io
import math
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from suite.config.fields import ConfigError
from suite.report import figures, tables
from suite.report.beta_map import BetaCurve, beta_curves
from suite.report.comparison import (
    Across,
    Cell,
    across,
    cells,
    collect,
    compared,
    improvements,
    improvements_across,
    scores_csv,
)
from suite.report.records import COLUMNS, RunRecord
from suite.report.statistics import Estimate
from suite.report.templates import Filters, render
from suite.sweeps.spec import ReportSettings, Sweep
from suite.system.files import read_json, write_bytes, write_text

LOG_LINES = 8  # of each run's log, on the page


def write_report(sweep: Sweep, command: str) -> Path:
    """Write a report of the finished runs, which lists the missing ones; return the page's path.

    `command` is shown as the way to make it again. Raises ConfigError for a wrong `report.x_axis`.
    """
    records = collect(sweep)
    sweep.folder.mkdir(parents=True, exist_ok=True)
    write_text(sweep.folder / "scores.csv", scores_csv(records))
    finished = [r for r in compared(sweep, records) if r.state == "finished"]
    check_x_axis(sweep.report.x_axis, finished)
    curves = beta_curves(grid_records(sweep, records), sweep.report.stable_above)
    together = across(finished, sweep.report)
    drawn = draw(finished, curves, together, sweep)
    content = {
        "sweep": sweep,
        "report": sweep.report,
        "command": command,
        "states": Counter(record.state for record in records),
        "records": records,
        "columns": COLUMNS,
        "missing": [record for record in records if record.state != "finished"],
        "cells": cells(finished),
        "together": together,
        "normalisation": normalisation(sweep.report, together),
        "improvements": [*improvements(finished), *improvements_across(together)],
        "curves": curves,
        "headlines": headlines(cells(finished), curves, sweep.report),
        "figures": drawn,
        "shown": first_of_each([r for r in finished if r.examples]),
        "environments": environments(records),
    }
    filters: Filters = {
        "estimate": partial(format_score, report=sweep.report),
        "plain": partial(format_score, report=ReportSettings()),
        "number": lambda x: "" if x is None else f"{x:.4g}",
        "log_end": log_end,
    }
    for suffix in ("md", "html"):
        page = render(f"report.{suffix}.j2", content, filters)
        write_text(sweep.folder / f"report.{suffix}", page)
    return sweep.folder / "report.html"


def check_x_axis(name: str, finished: Sequence[RunRecord]) -> None:
    """Raise ConfigError unless evaluations of finished runs hold the x axis of learning curves."""
    keys = {key for record in finished for row in record.evaluations for key in row}
    known = sorted(key.removeprefix("eval/") for key in keys)
    if finished and name not in known:
        raise ConfigError(
            f"report.x_axis must be a number that evaluations hold, one of {', '.join(known)};"
            f" found {name!r}"
        )


def grid_records(sweep: Sweep, records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the runs of the β grid."""
    return [record for record in records if sweep.report.beta_grid in record.grids]


class Drawn(NamedTuple):
    """A figure as files, in base64, and its numbers."""

    png: str
    svg: str
    table: tables.Table

    @property
    def csv(self) -> str:
        """The numbers as a file, in base64."""
        return base64.b64encode(self.table.csv.encode()).decode()


def draw(
    finished: Sequence[RunRecord],
    curves: Sequence[BetaCurve],
    together: Sequence[Across],
    sweep: Sweep,
) -> dict[str, Drawn]:
    """Save the figures that the runs allow; return them with their numbers, by name."""
    report = sweep.report
    drawings: dict[str, tuple[Figure, tables.Table]] = {}
    if finished:
        drawings["learning_curves"] = (
            figures.learning_curves(finished, report), tables.learning_curves(finished, report)
        )  # fmt: skip
        if (figure := figures.diagnostics(finished, report)) is not None:
            drawings["diagnostics"] = figure, tables.diagnostics(finished, report)
        if (figure := figures.judges(finished, report)) is not None:
            drawings["judges"] = figure, tables.judges(finished)
    if together:
        drawings["profiles"] = figures.profiles(together), tables.profiles(together)
    if curves:
        drawings["beta_map"] = figures.beta_map(curves, report), tables.beta_map(curves, report)
    folder = sweep.folder / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    return {
        name: save_drawing(folder, name, figure, table)
        for name, (figure, table) in drawings.items()
    }


def save_drawing(folder: Path, name: str, figure: Figure, table: tables.Table) -> Drawn:
    """Write a figure as PNG and SVG, and its numbers as CSV."""
    files = {}
    for suffix in ("png", "svg"):
        buffer = io.BytesIO()
        # An SVG has no background of its own: the page's may be dark.
        figure.savefig(buffer, format=suffix, dpi=150, transparent=suffix == "svg")
        write_bytes(folder / f"{name}.{suffix}", buffer.getvalue())
        files[suffix] = base64.b64encode(buffer.getvalue()).decode()
    write_text(folder / f"{name}.csv", table.csv)
    return Drawn(**files, table=table)


def log_end(record: RunRecord) -> str:
    """Return the last lines of a run's log."""
    if record.folder is None or not record.folder.log_path.exists():
        return ""
    lines = record.folder.log_path.read_text(errors="replace").splitlines()
    return "\n".join(lines[-LOG_LINES:])


def format_score(estimate: Estimate, report: ReportSettings) -> str:
    """Write a value with its interval, as in `71.2 % [68.9, 73.5]`."""
    factor, unit, digits = (100, " %", ".1f") if report.percent else (1, "", ".4g")
    text = f"{estimate.value * factor:{digits}}{unit}"
    if math.isnan(estimate.low):
        return text
    return f"{text} [{estimate.low * factor:{digits}}, {estimate.high * factor:{digits}}]"


def headlines(
    summaries: Sequence[Cell], curves: Sequence[BetaCurve], report: ReportSettings
) -> list[str]:
    """Return the content of the tables as sentences."""
    sentences = []
    for cell in summaries:
        verdict = "improves" if cell.gain.low > 0 else "does not clearly improve"
        if math.isnan(cell.gain.low):
            verdict = "has too few runs for a verdict"
        sentences.append(
            f"{cell.task}: {cell.variant} {verdict}: {format_score(cell.mean, report)}, from the"
            f" reference's {format_score(cell.start, report)};"
            f" gain {format_score(cell.gain, report)}."
        )
    for row in curves:
        if row.predicted is None:
            continue
        measured = "no β of the grid" if row.measured is None else f"β ≥ {row.measured:g}"
        sentences.append(
            f"{row.task}, α = {row.alpha:g}: stable for {measured}; predicted for"
            f" β > {row.predicted:.3g}."
        )
    return sentences


def normalisation(report: ReportSettings, together: Sequence[Across]) -> str:
    """Say which scores count as 0 and 1; nothing where tasks are not summed up."""
    if not together:
        return ""
    if not isinstance(report.normalize, dict):
        low, high = report.bounds("")
        return f"Scores from {low} to {high} count as 0 to 1."
    pairs = "; ".join(f"{task} {low} to {high}" for task, (low, high) in report.normalize.items())
    return f"These scores count as 0 to 1: {pairs}."


def first_of_each(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return one record of each variant."""
    return list({record.variant: record for record in reversed(records)}.values())[::-1]


def environments(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return the distinct environments of the runs, with the number of runs in each."""
    distinct: dict[str, dict[str, Any]] = {}
    for record in records:
        assert record.folder is not None  # `collect` read it
        facts = read_json(record.folder.path / "environment.json")
        if facts is not None:
            entry = distinct.setdefault(str(facts), {**facts, "runs": 0})
            entry["runs"] += 1
    return list(distinct.values())
