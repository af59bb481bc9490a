"""A sweep's report: scores.csv, report.md, report.html and figures."""

import base64
import io
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
    across,
    cells,
    collect,
    compared,
    improvements,
    improvements_across,
    labels_of,
    scores_csv,
)
from suite.report.files import SCORES, keep_fuller, write_files
from suite.report.reading import log_end
from suite.report.records import COLUMNS, RunRecord
from suite.report.score_figure import has_many, score_figure, score_table
from suite.report.sentences import count_runs, format_score, headlines, normalisation
from suite.report.templates import Filters, render
from suite.report.text import clean, one_line
from suite.report.tuned import tuned_variants
from suite.sweeps.choices import choices_of, waiting_text, with_choices
from suite.sweeps.spec import ReportSettings, Sweep

LOG_LINES = 8  # of each run's log, on the page
LONGEST_CELL = 2000  # characters


def write_report(sweep: Sweep, command: str) -> Path:
    """Write a report of the finished runs, which lists the missing ones; return the page's path.

    `command` is shown as the way to make it again. All files are made before the first is written.
    A report of more finished runs is kept aside. Raises ConfigError for a wrong `report.x_axis`.
    """
    choices = choices_of(sweep)
    sweep = with_choices(sweep, choices)
    records = collect(sweep)
    shown = compared(sweep, records)
    finished = [record for record in shown if record.counts]
    check_x_axis(sweep.report.x_axis, finished)
    curves = beta_curves(grid_records(sweep, records), sweep.report.stable_above)
    together = across(shown, sweep.report)
    drawn, files = draw(shown, curves, together, sweep.report)
    runs = list({record.name: record for record in records}.values())
    counted = sum(run.state == "finished" for run in runs)
    sweep.folder.mkdir(parents=True, exist_ok=True)
    content = {
        "sweep": sweep,
        "report": sweep.report,
        "command": command,
        "states": Counter(state_of(run) for run in runs),
        "records": runs,
        "columns": COLUMNS,
        "missing": [run for run in runs if not run.counts],
        "noted": [run for run in runs if run.notes],
        "waiting": waiting_text(choices),
        "tuned": tuned_variants(sweep, choices),
        "earlier": keep_fuller(sweep.folder, counted),
        "cells": cells(shown),
        "together": together,
        "normalisation": normalisation(sweep.report, together),
        "improvements": [*improvements(shown), *improvements_across(together)],
        "curves": curves,
        "headlines": headlines(cells(shown), curves, sweep.report),
        "figures": drawn,
        "shown": first_of_each([r for r in finished if r.examples]),
        "environments": environments(runs),
    }
    for suffix in ("md", "html"):
        page = render(f"report.{suffix}.j2", content, filters(sweep.report))
        files[f"report.{suffix}"] = clean(page).encode()
    files[SCORES] = scores_csv(runs).encode()
    write_files(sweep.folder, files)
    return sweep.folder / "report.html"


def filters(report: ReportSettings) -> Filters:
    """Return how templates write values."""
    return {
        "estimate": partial(format_score, report=report),
        "plain": partial(format_score, report=ReportSettings()),
        "number": lambda x: "" if x is None else f"{x:.4g}",
        "count_runs": lambda each: count_runs(each.runs, each.planned),
        "log_end": lambda r: "" if r.folder is None else log_end(r.folder, LOG_LINES),
        "cell": lambda text: one_line(str(text), LONGEST_CELL).replace("|", "\\|"),
    }


def state_of(record: RunRecord) -> str:
    """Return a run's state in words; a finished run may be left out."""
    return (
        "finished but left out" if record.state == "finished" and record.problem else record.state
    )


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
    records: Sequence[RunRecord],
    curves: Sequence[BetaCurve],
    together: Sequence[Across],
    report: ReportSettings,
) -> tuple[dict[str, Drawn], dict[str, bytes]]:
    """Draw the figures that the runs allow; return them with their numbers, and their files."""
    finished = [record for record in records if record.counts]
    labels = labels_of(records)
    drawings: dict[str, tuple[Figure, tables.Table]] = {}
    summaries = cells(records)
    if has_many(summaries):
        drawings["scores"] = (
            score_figure(summaries, report, labels),
            score_table(summaries),
        )
    if finished:
        drawings["learning_curves"] = (
            figures.learning_curves(finished, report, labels),
            tables.learning_curves(finished, report),
        )
        if (figure := figures.diagnostics(finished, report, labels)) is not None:
            drawings["diagnostics"] = figure, tables.diagnostics(finished, report)
        if (figure := figures.judges(finished, labels)) is not None:
            drawings["judges"] = figure, tables.judges(finished)
    if together:
        drawings["profiles"] = figures.profiles(together), tables.profiles(together)
    if curves:
        drawings["beta_map"] = figures.beta_map(curves, report), tables.beta_map(curves, report)
    drawn: dict[str, Drawn] = {}
    files: dict[str, bytes] = {}
    for name, (figure, table) in drawings.items():
        images = {suffix: image_of(figure, suffix) for suffix in ("png", "svg")}
        encoded = {suffix: base64.b64encode(image).decode() for suffix, image in images.items()}
        drawn[name] = Drawn(**encoded, table=table)
        files |= {f"figures/{name}.{suffix}": image for suffix, image in images.items()}
        files[f"figures/{name}.csv"] = table.csv.encode()
    return drawn, files


def image_of(figure: Figure, suffix: str) -> bytes:
    """Return a figure as the bytes of a PNG or SVG."""
    figures.without_markup(figure)
    buffer = io.BytesIO()
    # An SVG has no background of its own: the page's may be dark.
    figure.savefig(buffer, format=suffix, dpi=150, transparent=suffix == "svg")
    return buffer.getvalue()


def first_of_each(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return one record of each variant."""
    return list({record.variant: record for record in reversed(records)}.values())[::-1]


def environments(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return the distinct environments of the runs, with the number of runs in each."""
    distinct: dict[str, dict[str, Any]] = {}
    for record in records:
        facts = record.environment
        if facts is not None:
            entry = distinct.setdefault(str(facts), {**facts, "runs": 0})
            entry["runs"] += 1
    return list(distinct.values())
